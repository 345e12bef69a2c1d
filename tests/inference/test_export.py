"""What is exported computes what the module computes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from arignote.data.card import DataCard
from arignote.errors import UserError
from arignote.inference.export import METADATA_FILE, export
from arignote.inference.load import load_trained
from arignote.inference.request import Request

ODD = """
from torch import nn
from arignote import Model


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.dense(inputs) if float(inputs.sum()) > 0 else inputs


class Odd(Model):
    def build(self):
        return Net()
"""


def ask(run: Path, out: Path) -> dict[str, Any]:
    return export(Request("export", str(run), options={"out": str(out)}))


def check_metadata(found: Any, trained: Any) -> None:
    """It says all that a user of the file needs."""
    assert found["model"] == "digits-cnn"
    assert found["checkpoint"] == "step-00000090"
    assert json.loads(found["classes"]) == list("0123456789")
    assert json.loads(found["sample_shape"]) == [1, 8, 8]
    assert json.loads(found["mean"]) == list(trained.data.mean)
    assert json.loads(found["deviation"]) == list(trained.data.deviation)
    assert found["dtype"] == "float32"


def batches() -> list[torch.Tensor]:
    """Of several sizes: the batch axis is free."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, 1, 8, 8, generator=generator) for count in (1, 2, 7)]


def test_safetensors(trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "digits.safetensors"
    result = ask(trained.folder, out)
    assert result["out"] == str(out)
    assert result["parameters"] == 21_546
    assert result["bytes"] == out.stat().st_size
    weights = load_trained(trained.folder, "last").module.state_dict()
    with safe_open(out, framework="pt") as file:
        check_metadata(file.metadata(), trained)
        assert set(file.keys()) == set(weights)
        for name, tensor in weights.items():
            assert torch.equal(file.get_tensor(name), tensor)
    assert [path.name for path in tmp_path.iterdir()] == ["digits.safetensors"]


@pytest.mark.compiles
def test_pt2(trained: Any, tmp_path: Path) -> None:
    out = tmp_path / "digits.pt2"
    ask(trained.folder, out)
    extra = {METADATA_FILE: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.load(out, extra_files=extra).module()
    check_metadata(json.loads(extra[METADATA_FILE]), trained)
    model = load_trained(trained.folder, "last")
    for batch in batches():
        torch.testing.assert_close(program(batch), model.outputs(batch), rtol=1e-6, atol=1e-6)


@pytest.mark.compiles
def test_onnx(trained: Any, tmp_path: Path) -> None:
    import onnx
    from onnx.reference import ReferenceEvaluator

    out = tmp_path / "digits.onnx"
    ask(trained.folder, out)
    # Weights and all in one file.
    assert [path.name for path in tmp_path.iterdir()] == ["digits.onnx"]
    program = onnx.load(out)
    check_metadata({p.key: p.value for p in program.metadata_props}, trained)
    evaluator = ReferenceEvaluator(program)
    model = load_trained(trained.folder, "last")
    for batch in batches():
        (found,) = evaluator.run(None, {"inputs": batch.numpy()})
        torch.testing.assert_close(
            torch.from_numpy(found), model.outputs(batch), rtol=1e-4, atol=1e-4
        )


def test_tied_weights(make_run: Any, tmp_path: Path) -> None:
    (tmp_path / "tied.py").write_text(
        "from torch import nn\nfrom arignote import Model\n\n\nclass Tied(Model):\n"
        "    def build(self):\n        net = nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 3))\n"
        "        net[1].weight = net[0].weight\n        return net\n"
    )
    net = nn.Sequential(nn.Embedding(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    card = DataCard(("a", "b", "c"), (5,), "int64", ("a", "b", "c"), (), ())
    run = make_run(f"{tmp_path / 'tied.py'}:Tied", net.state_dict(), card)
    result = ask(run, tmp_path / "tied.safetensors")
    assert (result["dtype"], result["parameters"]) == ("int64", 12)
    with safe_open(tmp_path / "tied.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("0.weight"), file.get_tensor("1.weight"))


@pytest.mark.compiles
def test_a_model_that_cannot_be_traced(
    make_run: Any, tmp_path: Path, flat_weights: Any, pictures: DataCard
) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    weights = {"dense.weight": torch.ones(3, 4), "dense.bias": torch.ones(3)}
    run = make_run(f"{tmp_path / 'odd.py'}:Odd", weights, pictures)
    with pytest.raises(UserError, match=r"odd\.py:Odd cannot be traced by torch .*safetensors"):
        ask(run, tmp_path / "odd.pt2")
    assert not list(tmp_path.glob("*.pt2"))


def test_where_nothing_can_be_written(trained: Any) -> None:
    with pytest.raises(UserError, match=r"/proc/out\.safetensors cannot be written: "):
        ask(trained.folder, Path("/proc/out.safetensors"))


@pytest.mark.compiles
def test_where_no_program_can_be_written(trained: Any) -> None:
    with pytest.raises(UserError, match=r"/proc/out\.pt2 cannot be written: "):
        ask(trained.folder, Path("/proc/out.pt2"))
