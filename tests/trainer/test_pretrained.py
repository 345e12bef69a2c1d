"""Weights from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from arignote.errors import UserError
from arignote.frameworks.torch_replica import TorchReplica
from arignote.trainer.pretrained import Match, load_pretrained, match_tensors, read_weights

SMALL = {
    "run.model": "digits-mlp",
    "run.data": "synthetic:1x8x8,10,train=64,validation=16",
    "train.batch_size": 16,
    "train.epochs": 1,
}


def weights() -> dict[str, torch.Tensor]:
    """Of digits-mlp."""
    generator = torch.Generator().manual_seed(5)
    shapes = {"1.weight": (128, 64), "1.bias": (128,), "3.weight": (10, 128), "3.bias": (10,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def write(path: Path, content: Any) -> str:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(content, path)
    else:
        torch.save(content, path)
    return str(path)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt"])
def test_files(tmp_path: Path, name: str) -> None:
    path = Path(write(tmp_path / name, weights()))
    assert same(read_weights(path), weights())


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_wrappers(tmp_path: Path, key: str) -> None:
    content = {key: weights(), "epoch": 3, "optimizer": {"state": {}}}
    assert same(read_weights(Path(write(tmp_path / "w.pth", content))), weights())


def test_a_prefix_before_every_name_is_left_out(tmp_path: Path) -> None:
    content = {"state_dict": {f"module.{name}": tensor for name, tensor in weights().items()}}
    assert same(read_weights(Path(write(tmp_path / "w.pth", content))), weights())
    some = {"module.1.weight": torch.ones(2), "3.bias": torch.ones(2)}
    assert set(read_weights(Path(write(tmp_path / "some.pth", some)))) == set(some)


class Trap:
    """Unpickling it would write a file."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("trapped"),))


def test_files_that_are_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trap = Path(write(tmp_path / "trap.pth", {"state_dict": weights(), "hyper": Trap()}))
    with pytest.raises(UserError, match=r"trap\.pth holds more than tensors and plain containers"):
        read_weights(trap)
    assert not (tmp_path / "trapped").exists()
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(UserError, match=rf"{name} (cannot be read|holds more than)"):
            read_weights(tmp_path / name)
    with pytest.raises(UserError, match=r"gone\.safetensors cannot be read"):
        read_weights(tmp_path / "gone.safetensors")
    numbers = Path(write(tmp_path / "numbers.pth", {"epoch": 3}))
    with pytest.raises(UserError, match=r"numbers\.pth holds no named tensors"):
        read_weights(numbers)
    alone = Path(write(tmp_path / "alone.pth", torch.ones(3)))
    with pytest.raises(UserError, match=r"alone\.pth holds no named tensors"):
        read_weights(alone)


def test_what_matches() -> None:
    theirs = weights() | {"3.weight": torch.ones(1000, 128), "fc.bias": torch.ones(1)}
    del theirs["3.bias"]
    assert match_tensors(theirs, weights()) == Match(
        loaded=("1.weight", "1.bias"),
        other_shape=("3.weight (1000, 128) in the file, (10, 128) here",),
        missing=("3.bias",),
        unknown=("fc.bias",),
    )


def test_what_does_not_match_stays_as_it_was(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    replica = TorchReplica(
        module,
        torch.optim.SGD(module.parameters(), lr=0.1),
        allocate=lambda n, dtype, device: torch.zeros(n, dtype=dtype, device=device),
    )
    theirs = {
        "0.weight": torch.full((3, 2), 7.0, dtype=torch.float64),
        "0.bias": torch.ones(4),
        "1.running_mean": torch.full((3,), 2.0),
        "1.num_batches_tracked": torch.tensor(41),
    }
    match = load_pretrained(Path(write(tmp_path / "w.pth", theirs)), replica)
    assert match.loaded == ("0.weight", "1.running_mean", "1.num_batches_tracked")
    after = module.state_dict()
    assert torch.equal(after["0.weight"], torch.full((3, 2), 7.0))
    assert after["1.num_batches_tracked"] == 41
    assert (replica.buffers[0][:3] == 2).all()
    for name in before.keys() - set(match.loaded):
        assert torch.equal(after[name], before[name]), name


def test_nothing_matches(train: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "w.pth", {"fc.weight": torch.ones(2, 2)})
    with pytest.raises(
        UserError,
        match=r"none of its 1 tensors fits .*the file has fc\.weight \(2, 2\), the model 1\.weight",
    ):
        train(1, SMALL | {"train.weights": path})


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_begins_from_them(train: Any, tmp_path: Path, workers: int) -> None:
    """One step of nearly nothing: what is saved is what was loaded, on every worker."""
    path = write(tmp_path / "w.safetensors", {k: v for k, v in weights().items() if k != "3.bias"})
    result = train(
        workers, SMALL | {"train.weights": path, "train.steps": 1, "optimizer.learning_rate": 1e-30}
    )
    (event,) = [e for e in result.events if e["event"] == "weights"]
    assert event["file"] == path
    assert event["loaded"] == ["1.weight", "1.bias", "3.weight"]
    assert (event["other_shape"], event["missing"], event["unknown"]) == ([], ["3.bias"], [])
    ours = result.trainer.task.replica.named_tensors()
    for name in event["loaded"]:
        assert torch.equal(ours[name], weights()[name])
    other = train(1, SMALL | {"train.steps": 1}, folder="other")
    assert other.sha != result.sha


def test_workers_have_the_same_bits(train: Any, tmp_path: Path) -> None:
    """Two workers from the file are one worker with twice the batch, to rounding."""
    path = write(tmp_path / "w.pt", weights())
    two = train(2, SMALL | {"train.weights": path}, folder="two")
    one = train(1, SMALL | {"train.weights": path, "train.batch_size": 32}, folder="one")
    a, b = (run.trainer.task.replica.named_tensors() for run in (one, two))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)


def test_a_resumed_run_goes_on_from_its_own(train: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", weights())
    settings = SMALL | {"train.weights": path}
    straight = train(1, settings, folder="straight")
    train(1, settings, stop_at=2)
    Path(path).unlink()
    resumed = train(1, settings, resume=True)
    assert resumed.sha == straight.sha


def test_a_model_of_another_framework(train: Any, tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", weights())
    settings = {
        "run.model": "lsgan-digits",
        "run.data": "digits",
        "run.rule": "bsp:scheme=weights",
        "train.weights": path,
    }
    with pytest.raises(UserError, match=r"for PyTorch models: lsgan-digits loads its own weights"):
        train(1, settings)


@pytest.mark.parametrize("kept", [0, 1, 60])
def test_a_cut_file_of_the_old_format(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "cut.pth"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"cut\.pth cannot be read \(.+\): get it again") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)
