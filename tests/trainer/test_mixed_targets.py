"""Training with `train.mix`: the same whoever makes the batches, and an error that is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arignote.config.settings import Loading, Settings, Train
from arignote.errors import UserError
from arignote.models.base import Model
from arignote.models.googlenet import GoogLeNet
from arignote.trainer.contract_task import ContractTask
from arignote.trainer.mixed_targets import check_loss, right_class

SMALL = {
    "run.model": "digits-mlp",
    # No multiple of any batch here.
    "run.data": "synthetic:1x8x8,10,train=61,validation=13",
    "train.augment": "crop+mirror",
    "train.mix": "cutmix",
    "train.epochs": 1,
    "train.batch_size": 8,
    "schedule.scaling": "none",
}


def test_three_workers_equal_one(train: Any, relative_difference: Any) -> None:
    settings = SMALL | {"train.mix": "mixup", "train.precision": "fp64"}
    one = train(1, settings | {"train.batch_size": 24}, folder="one")
    three = train(3, settings, folder="three")
    a, b = (run.trainer.task.replica.named_tensors() for run in (one, three))
    assert relative_difference(a, b) < 1e-12


def test_the_same_run_with_loaders_and_on_the_device(train: Any) -> None:
    alone = train(1, SMALL, folder="alone")
    # Validation has targets of another shape and type, in the same memory.
    loaded = {"loading.loaders": 2, "loading.normalise": "device"}
    loaded = train(1, SMALL | loaded, folder="loaded")
    assert loaded.trainer.task.feed.facts.loaders == 2
    assert loaded.sha == alone.sha
    assert loaded.summary["metrics"] == alone.summary["metrics"]
    assert 0 <= alone.summary["metrics"]["accuracy"] <= 1
    assert train(1, SMALL | {"train.mix": "none"}, folder="plain").sha != alone.sha


def test_autocast_and_the_error_of_training(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    loss = Model.loss

    def look(self: Any, batch: Any) -> torch.Tensor:
        seen.append((batch.targets.dtype, batch.targets.ndim))
        return loss(self, batch)

    monkeypatch.setattr(Model, "loss", look)
    run = train(1, SMALL | {"train.precision": "bf16"})
    assert set(seen) == {(torch.float32, 2), (torch.int64, 1)}
    (error,) = [event["error"] for event in run.events if event["event"] == "epoch"]
    assert 0 < error <= 1


def test_the_larger_share_is_right() -> None:
    assert right_class(torch.tensor([[0.3, 0.7], [1.0, 0.0]])).tolist() == [1, 0]
    assert right_class(torch.tensor([4, 2])).tolist() == [4, 2]


class Own(Model):
    def loss(self, batch: Any) -> torch.Tensor:
        raise NotImplementedError


def test_losses_that_do_not_say_that_they_take_probabilities() -> None:
    check_loss(Own(), "none")
    check_loss(Model(), "mixup")
    check_loss(GoogLeNet(), "mixup")
    with pytest.raises(
        UserError,
        match=r"^train\.mix=mixup: targets are class probabilities .*, and Own has a loss of its "
        r"own: if that takes them, set Own.takes_probabilities = True, else use train.mix=none$",
    ):
        check_loss(Own(), "mixup")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            Settings(train=Train(mix="mixup")),
            "train.mix=mixup is for an arignote.Model, and Own ",
        ),
        (
            Settings(loading=Loading(normalise="device")),
            "loading.normalise=device is for an arignote.Model, and Own loads its data itself",
        ),
    ],
)
def test_a_model_of_the_general_contract(settings: Any, message: str) -> None:
    nothing: Any = None
    with pytest.raises(UserError, match=message):
        ContractTask(Own(), settings, nothing, nothing)  # type: ignore[arg-type]
