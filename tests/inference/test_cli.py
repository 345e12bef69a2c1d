"""The verbs on a trained run, as one types them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from arignote.cli import inference, main
from arignote.data.card import DataCard
from arignote.inference.__main__ import answer
from arignote.inference.request import RESULT_PREFIX, Request

LEAN = Path(__file__).parents[1] / "lean"
Call = Callable[..., tuple[int, str, str]]


class Here:
    """A child process whose work is done in this one."""

    returncode = 0

    def __init__(self, command: list[str], **_: Any) -> None:
        assert command[1:] == ["-m", "arignote.inference"]

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def communicate(self, text: str) -> tuple[str, None]:
        """What the child prints."""
        result = answer(Request.parse(text))
        return f"a model's own words\n{RESULT_PREFIX}{json.dumps(result)}\n", None


@pytest.fixture
def call(capfd: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command line: (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join([str(LEAN), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, err

    return run


@pytest.fixture
def call_here(call: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """The same without a child process."""
    monkeypatch.setattr(inference.subprocess, "Popen", Here)
    return call


def test_evaluate_and_infer_in_a_process_of_their_own(
    call: Call, trained: Any, tmp_path: Path
) -> None:
    code, out, err = call("evaluate", trained.folder)
    assert (code, err) == (0, "")
    metrics = trained.summary["metrics"]
    assert out == (
        "digits-cnn · step-00000090 · digits · 360 samples\n"
        f"accuracy {metrics['accuracy']:.2%} · top-5 error {metrics['error_top5']:.2%} · "
        f"loss {metrics['loss']:.4f}\n"
    )
    four = trained.picture(150, tmp_path / "four.png")
    code, out, err = call("infer", trained.folder, four, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["files"][0]["best"][0]["class"] == "4"


def test_a_mistake_that_only_the_child_sees(call: Call, trained: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    code, out, err = call("infer", trained.folder, "notes.txt")
    assert (code, out) == (2, "")
    assert err == "arignote: error: notes.txt is no picture that Pillow can read\n"


def test_words_of_a_model_that_end_in_no_new_line(
    call: Call, make_run: Any, flat_weights: Any, pictures: DataCard, tmp_path: Path
) -> None:
    (tmp_path / "talks.py").write_text(
        "import sys\nfrom torch import nn\nfrom arignote import Model\n\n\nclass Talks(Model):\n"
        "    def build(self):\n        sys.stdout.buffer.write(b'\\xff loading')\n"
        "        return nn.Sequential(nn.Flatten(), nn.Linear(72, 3))\n"
    )
    run = make_run(f"{tmp_path / 'talks.py'}:Talks", flat_weights, pictures)
    Image.new("RGB", (4, 6)).save(tmp_path / "a.png")
    code, out, err = call("infer", run, "a.png", "--json")
    assert (code, err) == (0, "\ufffd loading\n")
    assert json.loads(out)["files"][0]["file"] == "a.png"


@pytest.mark.parametrize("temperature", ["nan", "inf", "-1", "1e-40", "1001"])
def test_temperatures_that_nothing_can_be_drawn_at(call: Call, temperature: str) -> None:
    code, out, err = call("infer", "none", "--prompt", "a", f"--temperature={temperature}")
    assert (code, out) == (2, "")
    assert err.endswith(": expected 0, or 0.01 ... 1000\n")


def test_evaluate_as_json(call_here: Call, trained: Any) -> None:
    code, out, err = call_here("evaluate", trained.folder, "--json", "--checkpoint", "best")
    assert (code, err) == (0, "a model's own words\n")
    assert json.loads(out)["metrics"].keys() == trained.summary["metrics"].keys()
    code, out, err = call_here("evaluate", trained.folder, "--checkpoint", "worst")
    assert (code, out) == (2, "")
    assert "arignote: error: unknown checkpoint 'worst'" in err


def test_infer_prints_a_table(call_here: Call, trained: Any, tmp_path: Path) -> None:
    files = [trained.picture(index, tmp_path / f"{index}.png") for index in (0, 150)]
    code, out, _ = call_here("infer", trained.folder, *files, "--top", 3)
    assert code == 0
    lines = out.splitlines()
    assert [lines[0], lines[4]] == files
    assert len(lines) == 8
    assert [lines[1].split()[1], lines[5].split()[1]] == ["0", "4"]
    shares = [float(line.split()[0].removesuffix("%")) for line in lines[1:4]]
    assert shares == sorted(shares, reverse=True)


def test_export(call_here: Call, trained: Any, tmp_path: Path) -> None:
    file = tmp_path / "digits.safetensors"
    code, out, _ = call_here("export", trained.folder, file.name)
    assert code == 0
    assert out == (
        "digits-cnn · step-00000090 · 21,546 parameters · takes float32 Nx1x8x8\n"
        "export digits.safetensors (0.1 MB)\n"
    )
    size = file.stat().st_size
    file.write_bytes(b"mine")
    code, _, err = call_here("export", trained.folder, file.name)
    assert code == 2
    assert "digits.safetensors exists: choose another name, or add --force" in err
    assert file.read_bytes() == b"mine"
    assert call_here("export", trained.folder, file.name, "--force")[0] == 0
    assert file.stat().st_size == size


def test_export_without_onnx(
    call_here: Call, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    code, _, err = call_here("export", trained.folder, "digits.onnx")
    assert (code, err) == (
        2,
        'arignote: error: .onnx needs two more packages: pip install "arignote[onnx]"\n',
    )


def test_a_language_model(call_here: Call, make_run: Any, tmp_path: Path) -> None:
    (tmp_path / "always.py").write_text(
        "import torch\nfrom torch import nn\nfrom arignote import Model\n\n\nclass Always(Model):\n"
        "    def build(self):\n        return nn.Linear(1, 1)\n\n"
        "    def generate(self, prompt_tokens, count, temperature, generator):\n"
        "        return torch.ones(1, count, dtype=torch.int64)\n"
    )
    card = DataCard(("a", "b"), (4,), "int64", ("a", "b"), (), ())
    weights = torch.nn.Linear(1, 1).state_dict()
    run = make_run(f"{tmp_path / 'always.py'}:Always", weights, card)
    code, out, _ = call_here("infer", run, "--prompt", "ab", "--length", 3)
    assert (code, out) == (0, "abbbb\n")


def test_a_loss_of_tokens_is_told_as_such() -> None:
    metrics = {"loss": 1.25, "accuracy": 0.5}
    assert (
        inference._metrics(metrics, per_token=True) == "accuracy 50.00% · loss 1.2500 nats a token"
    )
    assert inference._metrics({}, per_token=False).startswith("nothing was measured")


@pytest.mark.parametrize(
    ("code", "message"), [(-9, "was ended by signal 9\n"), (1, "")], ids=["killed", "traceback"]
)
def test_a_child_without_an_answer(
    call: Call, trained: Any, monkeypatch: pytest.MonkeyPatch, code: int, message: str
) -> None:
    class Gone(Here):
        returncode = code

        def communicate(self, text: str) -> tuple[str, None]:
            return "", None

    monkeypatch.setattr(subprocess, "Popen", Gone)
    got, out, err = call("evaluate", trained.folder)
    assert (got, out) == (2 if code < 0 else 1, "")
    assert err.endswith(message)


def test_a_damaged_checkpoint_is_told(call_here: Call, trained: Any, make_run: Any) -> None:
    from arignote.inference.load import load_trained

    model = load_trained(trained.folder, "last")
    for step in (1, 2):
        run = make_run("digits-cnn", model.saved.weights, model.card, step=step)
    (run / "checkpoints/step-00000002/manifest.json").write_text("{")
    code, out, err = call_here("evaluate", run)
    assert code == 0
    assert out.startswith("digits-cnn · step-00000001 ")
    assert "arignote: checkpoint step-00000002 is damaged" in err
