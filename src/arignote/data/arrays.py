"""Data sets that write their batches into NumPy arrays, so that who loads them needs no torch."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from arignote.data.base import Batch, Dataset, Split
from arignote.data.sharding import Indices


class Arrays(NamedTuple):
    """A batch of N samples, the first axis of both."""

    inputs: npt.NDArray[Any]
    """(N, *sample_shape), of the data set's `input_type`."""
    targets: npt.NDArray[np.int64]
    """(N, *target_shape)."""


class ArrayDataset(Dataset):
    """Base of all data sets that are ours."""

    input_type: ClassVar[type[np.float32] | type[np.int64] | type[np.uint8]] = np.float32
    """float32 numbers, int64 tokens, or bytes of images that nobody has normalised yet."""

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Of one sample's target."""
        return ()

    @abstractmethod
    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write samples `indices` (N,) of `split` to `out`, whose arrays hold N samples.

        Only training samples are augmented, as (seed, epoch, index) decides.

        Raises:
            DataError: a sample cannot be read.
        """

    def new_arrays(self, count: int) -> Arrays:
        """Room for `count` samples."""
        inputs = np.empty((count, *self.sample_shape), self.input_type)
        return Arrays(inputs, np.empty((count, *self.target_shape), np.int64))

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

        out = self.new_arrays(len(indices))
        self.load(split, indices, out, seed=seed, epoch=epoch)
        return Batch(torch.from_numpy(out.inputs), torch.from_numpy(out.targets))
