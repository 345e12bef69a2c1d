"""How the arrays of a batch lie in memory that a worker shares with its loaders."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from arignote.data.arrays import ArrayDataset, Arrays
from arignote.data.base import Batch, Dataset, Split
from arignote.loading.arena import aligned


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
            at += aligned(place_bytes(place))
        return places

    def size_bytes(self, samples: int) -> int:
        """Of such a block."""
        return sum(aligned(place_bytes(place)) for place in self.places(samples, 0).values())


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


def place_bytes(place: dict[str, Any]) -> int:
    """Of the array at a place."""
    size: int = np.dtype(place["dtype"]).itemsize * math.prod(place["shape"])
    return size
