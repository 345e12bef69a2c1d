"""Loaders change nothing but who makes the batches."""

from __future__ import annotations

import os
from typing import Any

import psutil
import pytest

from arignote.config.load import resolve
from arignote.errors import UserError
from arignote.trainer.feed import OwnFeed, loader_count

SMALL = {
    "run.model": "digits-cnn",
    # 83 samples: no multiple of any batch here, and a last global batch of 3 or 11.
    "run.data": "synthetic:1x8x8,10,train=83,validation=37",
    "train.augment": "crop+mirror",
    "train.epochs": 2,
    "train.batch_size": 8,
    "schedule.scaling": "none",
}


def servers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "arignote.loading.server" in p.cmdline()]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_same_run_with_and_without_loaders(train: Any, workers: int) -> None:
    alone = train(workers, SMALL, folder="alone")
    assert isinstance(alone.trainer.task.feed, OwnFeed)
    assert alone.summary["loading"]["loaders"] == 0
    loaded = train(workers, SMALL | {"loading.loaders": 2}, folder="loaded")
    facts = loaded.trainer.task.feed.facts
    assert (facts.loaders, facts.restarts) == (2, 0)
    assert facts.seconds["augment"] > 0
    assert loaded.sha == alone.sha
    assert loaded.summary["metrics"] == alone.summary["metrics"]
    assert servers() == []


def test_resumed_in_the_middle_of_an_epoch_with_other_loaders(train: Any) -> None:
    whole = train(2, SMALL, folder="whole")
    first = train(2, SMALL | {"loading.loaders": 1}, folder="parts", stop_at=8)
    assert first.summary["status"] == "stopped"
    rest = train(2, SMALL | {"loading.loaders": 3}, folder="parts", resume=True)
    assert rest.sha == whole.sha


def test_workers_that_take_any_part(train: Any) -> None:
    settings = SMALL | {"run.rule": "easgd:alpha=0.5,period=2", "loading.loaders": 1}
    run = train(2, settings, folder="easgd")
    # Each sample once an epoch, whoever took it.
    assert run.summary["samples"] == 166
    assert sum(run.summary["worker_steps"]) == run.summary["steps"] * 2


def test_batches_of_changing_size(train: Any) -> None:
    run = train(2, SMALL | {"train.balance": True, "loading.loaders": 1}, folder="balanced")
    assert run.summary["samples"] == 166


def test_a_users_own_data(train: Any, tmp_path: Any) -> None:
    """Opened by the model's own code in each loader, which needs torch there."""
    (tmp_path / "own.py").write_text(OWN)
    settings = SMALL | {"run.model": f"{tmp_path / 'own.py'}:Own", "run.data": ""}
    alone = train(2, settings, folder="alone")
    loaded = train(2, settings | {"loading.loaders": 2}, folder="loaded")
    assert loaded.trainer.task.feed.facts.loaders == 2
    assert loaded.sha == alone.sha


OWN = """
import torch
from torch import nn
from arignote import Batch, Dataset, Model


class Noise(Dataset):
    classes = ("a", "b")
    sample_shape = (5,)
    train_size, validation_size = 29, 7

    def __init__(self):
        # Drawn at random: the same everywhere, since the seed is set before.
        self.inputs = torch.randn(36, 5, dtype=torch.float64).float()

    @classmethod
    def open(cls, spec, *, augment):
        return cls()

    def train_batch(self, indices, *, seed, epoch):
        return Batch(self.inputs[indices] * (epoch + 1), torch.from_numpy(indices) % 2)

    def validation_batch(self, indices):
        return Batch(self.inputs[29 + indices], torch.from_numpy(indices) % 2)


class Own(Model):
    def build(self):
        return nn.Linear(5, 2)

    def data(self):
        return Noise()
"""


def test_how_many_loaders(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(data: str, **loading: Any) -> int:
        return loader_count(resolve([("", {"run": {"data": data}, "loading": loading})]))

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert count("digits") == count("") == 0
    assert count("imagefolder:DIR") == 3
    assert count("imagefolder:DIR", loaders=0) == 0
    assert count("digits", loaders=2) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert count("imagefolder:DIR") == 4
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert count("imagefolder:DIR") == min(4, len(os.sched_getaffinity(0)))


def test_what_a_part_may_hold(train: Any) -> None:
    """A worker whose share grows gets more than its batch size: there is room for all."""
    run = train(2, SMALL | {"train.balance": True}, folder="balanced")
    assert run.trainer.task._parts.most_samples == 16
    assert train(2, SMALL, folder="plain").trainer.task._parts.most_samples == 8


@pytest.mark.parametrize("loaders", [0, 2])
def test_images_that_are_normalised_on_the_device(train: Any, loaders: int) -> None:
    settings = SMALL | {"run.data": "synthetic:3x9x8,10,train=29,validation=5", "train.epochs": 1}
    usual = train(2, settings, folder="usual")
    settings |= {"loading.normalise": "device", "loading.loaders": loaders}
    bytes_ = train(2, settings, folder="bytes")
    assert bytes_.sha == usual.sha
    assert bytes_.summary["metrics"] == usual.summary["metrics"]


def test_only_images_are_normalised_on_the_device(train: Any, tmp_path: Any) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be " * 99)
    settings = {"run.model": "char-lstm", "run.data": f"text:{tmp_path / 'text.txt'}"}
    with pytest.raises(UserError, match=r"loading.normalise=device is for images that Arignote "):
        train(1, settings | {"loading.normalise": "device"}, folder="text")
