"""Which checkpoint is read, and that a model is there without its data."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from arignote.checkpoint import store
from arignote.data.card import DataCard
from arignote.errors import CheckpointError, UserError
from arignote.inference import load
from arignote.inference.load import load_trained, read_checkpoint


def test_what_a_run_keeps_of_its_data(trained: Any) -> None:
    saved = read_checkpoint(trained.folder, "last")
    assert saved.card == DataCard.of(trained.data)
    assert saved.card.classes == tuple("0123456789")
    assert saved.card.sample_shape == (1, 8, 8)
    assert (saved.card.dtype, saved.card.vocabulary) == ("float32", ())
    assert saved.remarks == []


def test_the_model_is_in_evaluation_mode_and_has_the_weights(trained: Any) -> None:
    model = load_trained(trained.folder, "last")
    assert not model.module.training
    for name, tensor in model.module.state_dict().items():
        assert torch.equal(tensor, model.saved.weights[name])


def test_a_damaged_newest_is_told_and_the_one_before_used(trained: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.folder, run)
    names = sorted(path.name for path in (run / "checkpoints").glob("step-*"))
    weights = run / "checkpoints" / names[-1] / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    saved = read_checkpoint(run, "last")
    assert saved.name == names[-2]
    (remark,) = saved.remarks
    assert remark.startswith(f"checkpoint {names[-1]} is damaged: weights.safetensors has another")
    assert remark.endswith("; using an older one")
    with pytest.raises(CheckpointError, match=f"checkpoint {names[-1]} is damaged"):
        read_checkpoint(run, names[-1])


def test_what_only_a_resume_needs_may_be_gone(trained: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.folder, run)
    for worker in (run / "checkpoints").glob("step-*/worker-*"):
        worker.unlink()
    assert read_checkpoint(run, "last").remarks == []


@pytest.mark.parametrize("moment", ["before the look", "after the look"])
def test_pruned_while_it_is_read(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained.folder, run)
    names = sorted(path.name for path in (run / "checkpoints").glob("step-*"))

    def pruned(checkpoint: Path, needed: Any) -> str | None:
        found = store.damage(checkpoint, needed)
        if checkpoint.name == names[-1]:
            shutil.rmtree(checkpoint, ignore_errors=True)
        return found if moment == "after the look" else store.damage(checkpoint, needed)

    monkeypatch.setattr(load, "damage", pruned)
    saved = read_checkpoint(run, "last")
    # It is no damage, and no reason for a word.
    assert (saved.name, saved.remarks) == (names[-2], [])


def test_all_pruned_while_they_are_read(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    (run / "checkpoints/step-00000001").mkdir(parents=True)
    monkeypatch.setattr(store.CheckpointStore, "names", lambda self: ["step-00000000"])
    with pytest.raises(CheckpointError, match="its checkpoints are deleted as fast as they are"):
        read_checkpoint(run, "last")


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no checkpoint: none was saved yet"):
        read_checkpoint(tmp_path, "last")


def test_names(make_run: Any, flat: str, flat_weights: Any, pictures: DataCard) -> None:
    for step in (3, 7):
        run = make_run(flat, flat_weights, pictures, step=step)
    assert read_checkpoint(run, "last").step == 7
    assert read_checkpoint(run, "step-00000003").step == 3
    with pytest.raises(UserError, match=r"unknown checkpoint 'step-00000004': did you mean 'step"):
        read_checkpoint(run, "step-00000004")
    with pytest.raises(CheckpointError, match=r"kept no best checkpoint .*use --checkpoint last"):
        read_checkpoint(run, "best")


def test_an_older_arignote_kept_no_card(make_run: Any, flat: str, flat_weights: Any) -> None:
    run = make_run(flat, flat_weights, None)
    with pytest.raises(CheckpointError, match=r"saved by an older Arignote.*train --resume .*made"):
        load_trained(run, "last")


def test_other_weights(make_run: Any, flat: str, flat_weights: Any, pictures: DataCard) -> None:
    run = make_run(flat, {**flat_weights, "1.bias": torch.zeros(4)}, pictures)
    with pytest.raises(CheckpointError, match=r"1\.bias is \(4,\) there and \(3,\) here"):
        load_trained(run, "last")


def test_a_model_that_asks_its_data_for_more(
    make_run: Any, tmp_path: Path, pictures: DataCard
) -> None:
    (tmp_path / "more.py").write_text(
        "from torch import nn\nfrom arignote import Model\n\n\nclass More(Model):\n"
        "    def build(self):\n        return nn.Linear(self.dataset.colours, 2)\n"
    )
    run = make_run(f"{tmp_path / 'more.py'}:More", {}, pictures)
    with pytest.raises(UserError, match=r"More\.build\(\) asks its data set for 'colours'"):
        load_trained(run, "last")


def test_float64(make_run: Any, flat: str, flat_weights: Any, pictures: DataCard) -> None:
    doubles = {name: tensor.double() / 3 for name, tensor in flat_weights.items()}
    model = load_trained(make_run(flat, doubles, pictures, {"train.precision": "fp64"}), "last")
    inputs = torch.ones(1, 3, 6, 4)
    outputs = model.outputs(inputs)
    assert outputs.dtype == torch.float64
    expected = doubles["1.weight"].sum(1) + doubles["1.bias"]
    torch.testing.assert_close(outputs[0], expected, rtol=1e-13, atol=1e-13)


def test_bf16(make_run: Any, flat: str, flat_weights: Any, pictures: DataCard) -> None:
    run = make_run(flat, flat_weights, pictures, {"train.precision": "bf16"})
    assert load_trained(run, "last").outputs(torch.ones(1, 3, 6, 4)).dtype == torch.bfloat16
