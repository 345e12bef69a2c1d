"""Data sets that write their batches into NumPy arrays, so that who loads them needs no torch."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from arignote.data.base import Batch, Dataset, Split
from arignote.data.sharding import Indices

Targets: TypeAlias = npt.NDArray[np.int64] | npt.NDArray[np.float32]
"""Of N samples: classes or tokens, int64; class probabilities (N, classes), float32."""


class Arrays(NamedTuple):
    """A batch of N samples, the first axis of both."""

    inputs: npt.NDArray[Any]
    """(N, *sample_shape), of the data set's `input_type`."""
    targets: Targets
    """As `new_targets` has them."""


class ArrayDataset(Dataset):
    """Base of all data sets that are ours."""

    input_type: ClassVar[type[np.float32] | type[np.int64] | type[np.uint8]] = np.float32
    """float32 numbers, int64 tokens, or bytes of images that nobody has normalised yet."""

    def new_targets(self, split: Split, count: int) -> Targets:
        """Room for the targets of `count` samples of `split`: one class each, (count,)."""
        return np.empty(count, np.int64)

    @abstractmethod
    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write samples `indices` (N,) of `split` to `out`, whose arrays hold N samples.

        Only training samples are augmented, as (seed, epoch, index) decides.

        Raises:
            DataError: a sample cannot be read.
        """

    def new_arrays(self, split: Split, count: int) -> Arrays:
        """Room for `count` samples of `split`."""
        inputs = np.empty((count, *self.sample_shape), self.input_type)
        return Arrays(inputs, self.new_targets(split, count))

    def train_batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """See `Dataset.train_batch`.

        Raises:
            DataError: a sample cannot be read.
        """
        return self._batch("train", indices, seed=seed, epoch=epoch)

    def validation_batch(self, indices: Indices) -> Batch:
        """See `Dataset.validation_batch`.

        Raises:
            DataError: a sample cannot be read.
        """
        return self._batch("validation", indices, seed=0, epoch=0)

    def _batch(self, split: Split, indices: Indices, *, seed: int, epoch: int) -> Batch:
        import torch

        out = self.new_arrays(split, len(indices))
        self.load(split, indices, out, seed=seed, epoch=epoch)
        return Batch(torch.from_numpy(out.inputs), torch.from_numpy(out.targets))
