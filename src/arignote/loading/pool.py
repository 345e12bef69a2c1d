"""The batches of one worker that its loaders make: ordered ahead, taken in any order.

A batch is cut into a piece for each loader, so that even one that is asked for late is made by
all of them at once. What is in a batch does not depend on their number: an order names its samples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from arignote.data.arrays import ArrayDataset, Arrays
from arignote.data.base import Batch, Dataset, Split
from arignote.data.sharding import Indices, worker_slice
from arignote.data.stages import VIEW_BYTES
from arignote.errors import LoaderError
from arignote.loading.arena import Arena, aligned
from arignote.loading.channel import Message
from arignote.loading.loader import view
from arignote.loading.loaders import Loaders
from arignote.loading.process import ServerProcess, raise_failure

_Key: TypeAlias = tuple[str, int, bytes]
"""Split, epoch and samples of a batch."""


@dataclass(frozen=True)
class Shapes:
    """Of one sample; dtypes as NumPy names them."""

    input_type: str
    input_shape: tuple[int, ...]
    target_type: str
    target_shape: tuple[int, ...]

    @classmethod
    def of(cls, arrays: Arrays) -> Shapes:
        """As in a batch."""
        inputs, targets = arrays
        return cls(str(inputs.dtype), inputs.shape[1:], str(targets.dtype), targets.shape[1:])

    def places(self, samples: int, begin: int) -> dict[str, dict[str, Any]]:
        """Where indices, inputs and targets of a batch are, in a block that begins there."""
        places, at = {}, begin
        for name, dtype, shape in (
            ("indices", "int64", ()),
            ("inputs", self.input_type, self.input_shape),
            ("targets", self.target_type, self.target_shape),
        ):
            place: dict[str, Any] = {"dtype": dtype, "shape": [samples, *shape], "at": at}
            places[name] = place
            at += aligned(_bytes(place))
        return places

    def size_bytes(self, samples: int) -> int:
        """Of such a block."""
        return sum(aligned(_bytes(place)) for place in self.places(samples, 0).values())


def shapes_of(dataset: Dataset) -> dict[Split, Shapes]:
    """Of each split; of a data set that is not ours its first sample there decides."""
    if isinstance(dataset, ArrayDataset):
        return {
            "train": Shapes.of(dataset.new_arrays("train", 1)),
            "validation": Shapes.of(dataset.new_arrays("validation", 1)),
        }
    first = np.zeros(1, np.int64)
    train = _shapes_in(dataset.train_batch(first, seed=0, epoch=0))
    # Targets may differ: soft in training, classes in validation.
    other = _shapes_in(dataset.validation_batch(first)) if dataset.validation_size else train
    return {"train": train, "validation": other}


def _shapes_in(batch: Batch) -> Shapes:
    return Shapes.of(Arrays(batch.inputs.numpy(), batch.targets.numpy()))


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
        self._used: int | None = None
        """The batch that the trainer has."""

    @property
    def memory_bytes(self) -> int:
        """For batches."""
        return self._arena.size_bytes

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

    def take(self, want: Want) -> Arrays:
        """The batch, once it is made; it stays as it is until `release`.

        Raises:
            LoaderError: it is not made in time, or its loader ends again and again.
            DataError: a sample cannot be read.
            ForeignError: the data set's own code raised something else.
        """
        while not self.ask(want):
            # What was ordered last makes room for what is needed now.
            self._forget(max(self._numbers, key=self._numbers.__getitem__))
        self._used = self._numbers.pop(want.key)
        batch = self._batches[self._used]
        self._wait_for(batch)
        if batch.failure is not None:
            raise_failure(batch.failure)
        return batch.arrays

    def release(self) -> None:
        """The batch that was taken last is used no more."""
        if self._used is not None:
            self._arena.give_back(self._batches.pop(self._used).begin)
            self._used = None

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
            for answer in self.loaders.hear(left):
                other = self._batches[answer["batch"]]
                other.pieces_left -= 1
                if "failure" in answer:
                    other.failure = answer
            if left <= 0 and batch.pieces_left:
                waited = f"{self._timeout_seconds:g} s (loading.timeout_seconds)"
                raise LoaderError(self.loaders.who_stalls(waited))


def _bytes(place: dict[str, Any]) -> int:
    size: int = np.dtype(place["dtype"]).itemsize * math.prod(place["shape"])
    return size


def _part(place: dict[str, Any], part: slice) -> dict[str, Any]:
    """A contiguous part of the array at a place."""
    each = _bytes({**place, "shape": place["shape"][1:]})
    shape = [part.stop - part.start, *place["shape"][1:]]
    return {**place, "shape": shape, "at": place["at"] + part.start * each}
