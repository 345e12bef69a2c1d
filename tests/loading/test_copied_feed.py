"""Batches on their way to a device: a slot is given back when its copy is done, and not before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from arignote.data.base import Batch
from arignote.loading.pool import Pool, Want
from arignote.trainer.copied_feed import CopiedFeed
from arignote.trainer.device_copy import Copier, Copy

SYNTHETIC = "synthetic:3x8x8,10,train=50,validation=20"


class Queue(Copier):
    """A device that does nothing until it is waited for, or told to: `run`."""

    def __init__(self) -> None:
        self.begun = 0
        self.queue: list[QueuedCopy] = []

    def begin(self, batch: Batch) -> Copy:
        self.begun += 1
        copy = QueuedCopy(self, batch)
        self.queue.append(copy)
        return copy

    def run(self) -> None:
        for copy in self.queue:
            for there, tensor in zip(copy.there, copy.source, strict=True):
                there.copy_(tensor)
        self.queue.clear()

    def close(self) -> None:
        self.run()


class QueuedCopy(Copy):
    def __init__(self, queue: Queue, source: Batch) -> None:
        self.source = source
        self.there = Batch(*(torch.full_like(tensor, 77) for tensor in source))
        self._queue = queue

    def done(self) -> bool:
        return self not in self._queue.queue

    def wait(self) -> None:
        self._queue.run()

    def use(self) -> Batch:
        """What the device is given to do with it comes after the copy in its queue."""
        return self.there


@pytest.fixture
def copied(open_pool: Any) -> Callable[..., tuple[Any, Pool, Queue, CopiedFeed]]:
    """copied(ahead_bytes=1, ...): the data, its pool, and a feed whose device is late."""

    def start(**given: Any) -> tuple[Any, Pool, Queue, CopiedFeed]:
        data, pool = open_pool(SYNTHETIC, "crop+mirror", **given)
        copier = Queue()
        return data, pool, copier, CopiedFeed(pool, copier)

    return start


def stream(epochs: int) -> list[tuple[int, Any]]:
    """(epoch, samples) of all batches."""
    orders = [np.random.default_rng(epoch).permutation(50) for epoch in range(epochs)]
    return [(e, order[at : at + 8]) for e, order in enumerate(orders) for at in range(0, 50, 8)]


def same(batch: Batch, expected: Batch) -> bool:
    return batch.inputs.equal(expected.inputs) and batch.targets.equal(expected.targets)


def look_ahead(pool: Pool, want: Want, wait_until: Any) -> bool:
    """Wait until a batch is made, as when a step is long; False: there is no room for it yet."""
    if not pool.ask(want):
        return False
    wait_until(lambda: pool.made(want), 20, "the next batch")
    return True


def loaders_go_on(pool: Pool, wait_until: Any) -> None:
    """Wait until all that was ordered is written."""

    def written() -> bool:
        pool._hear(0.0)
        return not any(batch.pieces_left for batch in pool._batches.values())

    wait_until(written, 20, "all that was ordered")


def test_each_batch_is_copied_once_before_it_is_asked_for(copied: Any, wait_until: Any) -> None:
    data, pool, copier, feed = copied()
    batches = stream(2)
    for place, (epoch, indices) in enumerate(batches):
        before = copier.begun
        batch = feed.train(epoch, indices)
        assert copier.begun - before == (place == 0)
        ahead = batches[place + 1 :]
        if ahead:
            assert look_ahead(pool, Want("train", *ahead[0]), wait_until)
        feed.order(iter(ahead))
        loaders_go_on(pool, wait_until)
        copier.run()
        assert copier.begun == min(place + 2, len(batches))
        assert same(batch, data.train_batch(indices, seed=5, epoch=epoch))
    # Each was made once.
    assert pool._next == len(batches)


def test_the_same_batches_where_there_is_room_for_two(copied: Any, wait_until: Any) -> None:
    data, pool, copier, feed = copied(ahead_bytes=1)
    batches = stream(3)
    begun_ahead = 0
    for place, (epoch, indices) in enumerate(batches):
        before = copier.begun
        batch = feed.train(epoch, indices)
        begun_ahead += copier.begun == before
        ahead = batches[place + 1 :]
        if ahead:
            look_ahead(pool, Want("train", *ahead[0]), wait_until)
        feed.order(iter(ahead))
        loaders_go_on(pool, wait_until)
        copier.run()
        assert same(batch, data.train_batch(indices, seed=5, epoch=epoch))
    assert copier.begun == len(batches)
    # Not where the room is still the batch before's.
    assert 0 < begun_ahead < len(batches)


def test_others_than_those_foreseen(copied: Any, wait_until: Any) -> None:
    data, pool, copier, feed = copied(ahead_bytes=1)
    batches = stream(2)
    foreseen = Want("train", *batches[1])
    feed.train(*batches[0])
    assert look_ahead(pool, foreseen, wait_until)
    feed.order(batches[1:])
    for epoch, indices in [batches[5], batches[1], batches[9]]:
        batch = feed.train(epoch, indices)
        feed.order([])
        loaders_go_on(pool, wait_until)
        copier.run()
        assert same(batch, data.train_batch(indices, seed=5, epoch=epoch))


def test_validation_between_steps_also_cut_short(copied: Any, wait_until: Any) -> None:
    data, pool, copier, feed = copied(ahead_bytes=1)
    batches = stream(2)
    parts = [np.arange(at, min(at + 8, 20)) for at in (0, 8, 16)]
    for place, (epoch, indices) in enumerate(batches[:6]):
        batch = feed.train(epoch, indices)
        copier.run()
        feed.order([])
        assert look_ahead(pool, Want("train", *batches[place + 1]), wait_until)
        feed.order(batches[place + 1 : place + 2])
        asked = parts[: 1 + place % 3]
        validated = []
        for found, _ in zip(feed.validation(parts), asked, strict=False):
            loaders_go_on(pool, wait_until)
            validated.append(found)
        # Or the next batch of training would have too little room.
        assert not pool._used
        for found, part in zip(validated[:-1], parts, strict=False):
            # Copied before its slot was another's.
            assert same(found, data.validation_batch(part))
        copier.run()
        assert same(batch, data.train_batch(indices, seed=5, epoch=epoch))


def test_a_bad_batch_is_told_at_its_turn(copied: Any, wait_until: Any) -> None:
    _, pool, _, feed = copied()
    good, bad = np.arange(8), np.array([10**6])
    feed.train(0, good)
    feed.order([(0, bad)])
    want = Want("train", 0, bad)
    number = pool._numbers[want.key]

    def heard() -> bool:
        return pool.made(want) or pool._batches[number].failure is not None

    wait_until(heard, 20, "the failure")
    assert not pool.made(want)
    feed.order([(0, bad)])
    with pytest.raises(Exception, match="index"):
        feed.train(0, bad)
