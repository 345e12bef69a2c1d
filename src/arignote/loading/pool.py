"""The batches of one worker that its loaders make: ordered ahead, taken in any order.

A batch is cut into a piece for each loader, so that even one that is asked for late is made by
all of them at once. What is in a batch does not depend on their number: an order names its samples.
"""

from __future__ import annotations

import mmap
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from arignote.data.arrays import Arrays
from arignote.data.base import Split
from arignote.data.sharding import Indices, worker_slice
from arignote.data.stages import VIEW_BYTES
from arignote.errors import LoaderError
from arignote.loading.arena import Arena
from arignote.loading.channel import Message
from arignote.loading.loader import view
from arignote.loading.loaders import Loaders
from arignote.loading.process import ServerProcess, raise_failure
from arignote.loading.shapes import Shapes, place_bytes

_Key: TypeAlias = tuple[str, int, bytes]
"""Split, epoch and samples of a batch."""


@dataclass(frozen=True)
class Want:
    """A batch: which samples, augmented for which epoch."""

    split: Split
    epoch: int
    indices: Indices

    @property
    def key(self) -> _Key:
        """Equal for equal batches."""
        return self.split, self.epoch, self.indices.tobytes()


@dataclass
class _Batch:
    begin: int
    """Of its block."""
    arrays: Arrays
    pieces_left: int
    failure: Message | None = None


class Pool:
    """The batches that are being made or used.

    Args:
        description: what `server.describe` gave.
        samples: the most that a batch has.
        ahead_bytes: memory for batches; two of the largest fit in any case.
        worker: its rank, for messages.
    """

    def __init__(
        self,
        server: ServerProcess,
        description: Message,
        shapes: Mapping[Split, Shapes],
        *,
        loaders: int,
        samples: int,
        ahead_bytes: int,
        timeout_seconds: float,
        seed: int,
        worker: int,
    ) -> None:
        self._shapes = shapes
        self._timeout_seconds = timeout_seconds
        self._seed = seed
        self.most_batches = 2 * loaders + 2
        """Further ahead nothing is won."""
        one = max(of_split.size_bytes(samples) for of_split in shapes.values())
        size = max(2 * one, min(ahead_bytes, self.most_batches * one))
        self._arena = Arena(size, reserved_bytes=loaders * VIEW_BYTES)
        self.loaders = Loaders(server, description, self._arena, loaders, worker)
        self._batches: dict[int, _Batch] = {}
        self._numbers: dict[_Key, int] = {}
        """Of those that nobody has taken."""
        self._next = 0
        self._used: deque[int] = deque()
        """The batches that the trainer has, in the order in which it took them."""

    @property
    def memory_bytes(self) -> int:
        """For batches."""
        return self._arena.size_bytes

    @property
    def memory(self) -> mmap.mmap:
        """In which all batches are."""
        return self._arena.memory

    def ask(self, want: Want) -> bool:
        """Have a batch made, if there is room for it; whether it is (or was) begun."""
        if want.key in self._numbers:
            return True
        samples = len(want.indices)
        shapes = self._shapes[want.split]
        begin = self._arena.take(shapes.size_bytes(samples))
        if begin is None:
            return False
        places = shapes.places(samples, begin)
        indices, *arrays = (view(self._arena.memory, place) for place in places.values())
        indices[:] = want.indices
        number, self._next = self._next, self._next + 1
        pieces = min(len(self.loaders), samples)
        self._numbers[want.key] = number
        self._batches[number] = _Batch(begin, Arrays(*arrays), pieces)
        order = {"batch": number, "split": want.split, "epoch": want.epoch, "seed": self._seed}
        for loader in range(pieces):
            part = worker_slice(samples, rank=loader, workers=pieces)
            cut = {name: _part(place, part) for name, place in places.items()}
            self.loaders.order(loader, {**order, **cut})
        return True

    def made(self, want: Want) -> bool:
        """Whether a batch that was asked for is there, and good."""
        number = self._numbers.get(want.key)
        if number is None:
            return False
        self._hear(0.0)
        batch = self._batches[number]
        return not batch.pieces_left and batch.failure is None

    def take(self, want: Want) -> Arrays:
        """The batch, once it is made; it stays as it is until `release`.

        One that is taken beside others must be `made`: there may be no room to make it.

        Raises:
            LoaderError: it is not made in time, or its loader ends again and again.
            DataError: a sample cannot be read.
            ForeignError: the data set's own code raised something else.
        """
        while not self.ask(want):
            # What was ordered last makes room for what is needed now.
            self._forget(max(self._numbers, key=self._numbers.__getitem__))
        number = self._numbers.pop(want.key)
        self._used.append(number)
        batch = self._batches[number]
        self._wait_for(batch)
        if batch.failure is not None:
            raise_failure(batch.failure)
        return batch.arrays

    def release(self) -> None:
        """Of the batches that were taken, the first is used no more."""
        if self._used:
            self._arena.give_back(self._batches.pop(self._used.popleft()).begin)

    def close(self) -> None:
        """No loader is left when this returns."""
        self.loaders.close()
        self._arena.close()

    def keep_only(self, split: Split, wants: Iterable[Want]) -> None:
        """Give up what was ordered of this split and is not among `wants`."""
        keys = {want.key for want in wants}
        for key in [key for key in self._numbers if key[0] == split and key not in keys]:
            self._forget(key)

    def _forget(self, key: _Key) -> None:
        number = self._numbers.pop(key)
        # A loader may be writing it.
        self._wait_for(self._batches[number])
        self._arena.give_back(self._batches.pop(number).begin)

    def _wait_for(self, batch: _Batch) -> None:
        deadline = time.monotonic() + self._timeout_seconds
        while batch.pieces_left:
            left = deadline - time.monotonic()
            self._hear(left)
            if left <= 0 and batch.pieces_left:
                waited = f"{self._timeout_seconds:g} s (loading.timeout_seconds)"
                raise LoaderError(self.loaders.who_stalls(waited))

    def _hear(self, seconds: float) -> None:
        for answer in self.loaders.hear(seconds):
            batch = self._batches[answer["batch"]]
            batch.pieces_left -= 1
            if "failure" in answer:
                batch.failure = answer


def _part(place: dict[str, Any], part: slice) -> dict[str, Any]:
    """A contiguous part of the array at a place."""
    each = place_bytes({**place, "shape": place["shape"][1:]})
    shape = [part.stop - part.start, *place["shape"][1:]]
    return {**place, "shape": shape, "at": place["at"] + part.start * each}
