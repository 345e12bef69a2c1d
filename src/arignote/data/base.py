"""The contract of a data set: sizes, class names, and a batch for given sample indices.

A data set knows nothing of workers: which indices a worker asks for, and in which order, is
decided by `data.sharding`. All randomness of a sample (its crop, its mirror) is a function
of (seed, epoch, index), so it does not depend on who loads the sample, or in which batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from arignote.config.spec import Spec
from arignote.data.sharding import Indices

if TYPE_CHECKING:
    # Our own data sets load without torch: see `arrays`.
    import torch

Split: TypeAlias = Literal["train", "validation"]


class Batch(NamedTuple):
    """What a model's `loss` gets: N samples, the first axis of both tensors."""

    inputs: torch.Tensor
    """(N, *sample_shape): float32 numbers, or int64 tokens where there is a `vocabulary`."""
    targets: torch.Tensor
    """int64 indices into `classes`: (N,), or (N, T) where each of T tokens has a target.
    In training with `train.mix` float32 class probabilities (N, classes)."""


class Dataset(ABC):
    """A training set and a validation set of labelled samples."""

    sample_name: str = "images"
    """What its samples are called when their speed is shown."""
    classes: tuple[str, ...]
    """Class names; a target is an index into them."""
    sample_shape: tuple[int, ...]
    """Shape of one sample without the batch axis: (C, H, W), channels first, or (T,) tokens."""
    vocabulary: tuple[str, ...] = ()
    """What the tokens stand for, by number; empty where inputs are numbers. A language model's
    targets are tokens too, so there `classes` is the same tuple."""
    train_size: int
    """Samples in the training set."""
    validation_size: int
    """Samples in the validation set."""
    mean: tuple[float, ...] = ()
    """Of images: what was subtracted from each channel's pixels (0..255); empty: not known."""
    deviation: tuple[float, ...] = ()
    """Of images: by what the result was divided."""
    skipped: tuple[str, ...] = ()
    """Files that were left out because the user allowed it."""

    @classmethod
    @abstractmethod
    def open(cls, spec: Spec, *, augment: str) -> Dataset:
        """Open what the spec names; `augment` is `train.augment`.

        Raises:
            DataError: it is missing, empty, damaged, or its labels or shapes do not fit.
            UserError: the spec has an argument or option that this data set does not know.
        """

    def known(self) -> dict[str, Any]:
        """What it took time to find out, as plain values: for `learn` of another process."""
        mean, deviation = (list(map(float, each)) for each in (self.mean, self.deviation))
        return {"mean": mean, "deviation": deviation}

    def learn(self, known: Mapping[str, Any]) -> None:
        """Take over what `known` of the same data set gave."""
        self.mean, self.deviation = tuple(known["mean"]), tuple(known["deviation"])

    @classmethod
    def open_again(cls, spec: Spec, *, augment: str, known: Mapping[str, Any]) -> Dataset:
        """As `open`, where another process has opened it before.

        Raises:
            UserError: as `open`.
        """
        dataset = cls.open(spec, augment=augment)
        dataset.learn(known)
        return dataset

    @abstractmethod
    def train_batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """Training samples `indices` (N >= 1,), augmented as (seed, epoch, index) decides.

        The tensors are the caller's: it may change them in place.
        """

    @abstractmethod
    def validation_batch(self, indices: Indices) -> Batch:
        """Validation samples `indices` (N >= 1,), never augmented."""
