"""Batches that loaders make, on a GPU: pinned, copied beside the step, cropped there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arignote.config.load import nest, resolve
from arignote.config.settings import Settings
from arignote.data.open import open_data
from arignote.loading.pool import Want
from arignote.loading.process import ServerProcess
from arignote.trainer import device_copy
from arignote.trainer.copied_feed import CopiedFeed
from arignote.trainer.open_feed import open_feed
from arignote.trainer.placing import open_placing

# Large enough for a copy to take its time: 64 x 3 x 128 x 128 floats are 12 MiB.
SPEC = "synthetic:3x128x128,10,train=500,validation=100"
EVERYTHING_THERE = {"loading.normalise": "device", "loading.augment": "device"}


def settings(**others: Any) -> Settings:
    given = {"run.data": SPEC, "run.seed": 5, "train.augment": "crop+mirror", **others}
    return resolve([("", nest(given | {"loading.loaders": 2}, ""))])


class Refused:
    """Memory that the driver does not register."""

    is_pinned = False

    def __init__(self, memory: object) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def feed(request: pytest.FixtureRequest) -> Iterator[CopiedFeed]:
    """Of `settings(**request.param)`; "unpinned": the driver registers no memory."""
    given = dict(request.param)
    with pytest.MonkeyPatch.context() as patch:
        if given.pop("unpinned", False):
            patch.setattr(device_copy, "PinnedMemory", Refused)
        resolved = settings(**given)
        opened = open_feed(
            resolved,
            open_data(SPEC, "crop+mirror"),
            ServerProcess(),
            own_data=False,
            samples=100,
            device=torch.device("cuda:0"),
            worker=0,
        )
    assert isinstance(opened, CopiedFeed)
    yield opened
    opened.close()


def stream(epochs: int) -> list[tuple[int, Any]]:
    orders = [np.random.default_rng(epoch).permutation(500) for epoch in range(epochs)]
    return [(e, order[at : at + 64]) for e, order in enumerate(orders) for at in range(0, 500, 64)]


@pytest.mark.parametrize(
    "feed",
    [{}, {"loading.ahead_mib": 1}, {"unpinned": True}, EVERYTHING_THERE],
    indirect=True,
    ids=str,
)
def test_the_same_bits_while_the_gpu_is_busy(
    feed: CopiedFeed, request: pytest.FixtureRequest
) -> None:
    given = {k: v for k, v in request.node.callspec.params["feed"].items() if k != "unpinned"}
    data, device = open_data(SPEC, "crop+mirror"), torch.device("cuda:0")
    placing = open_placing(settings(**given), data, nn.Linear(1, 1), device)
    busy = torch.randn(4096, 4096, device=device)
    batches = stream(3)
    for place, (epoch, indices) in enumerate(batches):
        batch = feed.train(epoch, indices)
        assert batch.inputs.device == device
        feed.order(batches[place + 1 :])
        # What is queued reads the batch long after the next copies were begun.
        for _ in range(20):
            busy = torch.tanh(busy @ busy)
        found = placing.place(batch, Want("train", epoch, indices))
        expected = data.train_batch(indices, seed=5, epoch=epoch)
        assert found.inputs.cpu().equal(expected.inputs)
        assert found.targets.cpu().equal(expected.targets)
    parts = [np.arange(0, 64), np.arange(64, 100)]
    for part, raw in zip(parts, feed.validation(parts), strict=True):
        found = placing.place(raw, Want("validation", 0, part))
        assert found.inputs.cpu().equal(data.validation_batch(part).inputs)


@pytest.mark.parametrize("feed", [{}], indirect=True)
def test_the_memory_of_the_loaders_is_pinned(feed: CopiedFeed) -> None:
    copier = feed._copier
    assert isinstance(copier, device_copy.StreamCopier)
    assert copier.pins
    copier.close()
    assert not copier.pins


@pytest.mark.parametrize("feed", [{"unpinned": True}], indirect=True)
def test_without_pinned_memory_it_goes_another_way(feed: CopiedFeed) -> None:
    assert isinstance(feed._copier, device_copy.StreamCopier)
    assert not feed._copier.pins
