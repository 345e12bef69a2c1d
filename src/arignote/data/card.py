"""What must be known of a data set to use a model when the data is gone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import numpy as np
import torch

from arignote.config.spec import Spec
from arignote.data.base import Batch, Dataset
from arignote.data.sharding import Indices


@dataclass(frozen=True)
class DataCard:
    """Every checkpoint of a PyTorch model holds one."""

    classes: tuple[str, ...]
    sample_shape: tuple[int, ...]
    """Of one sample without the batch axis: (C, H, W), or (T,) tokens."""
    dtype: str
    """Of the inputs, as torch names it: `float32`."""
    vocabulary: tuple[str, ...]
    """What the tokens stand for; empty where inputs are numbers."""
    mean: tuple[float, ...]
    """Of each channel, in pixel values 0..255; empty: the data set does not say."""
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, dataset: Dataset) -> DataCard:
        """What there is to know of `dataset`; looks at one of its samples.

        What a user's own data set leaves out (classes of a regression, say) is empty.
        """
        sample = dataset.train_batch(np.zeros(1, np.int64), seed=0, epoch=0).inputs
        return cls(
            classes=tuple(map(str, getattr(dataset, "classes", ()))),
            sample_shape=tuple(sample.shape[1:]),
            dtype=str(sample.dtype).removeprefix("torch."),
            vocabulary=tuple(map(str, getattr(dataset, "vocabulary", ()))),
            mean=tuple(map(float, getattr(dataset, "mean", ()))),
            deviation=tuple(map(float, getattr(dataset, "deviation", ()))),
        )

    @classmethod
    def load(cls, saved: dict[str, Any]) -> DataCard:
        """The inverse of `as_dict`."""
        lists: dict[str, Any] = {k: tuple(v) for k, v in saved.items() if k != "dtype"}
        return cls(dtype=saved["dtype"], **lists)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as a checkpoint takes them."""
        return asdict(self)

    @property
    def is_language(self) -> bool:
        """Whether targets are tokens too."""
        return bool(self.vocabulary) and self.vocabulary == self.classes

    @property
    def torch_dtype(self) -> torch.dtype:
        """The dtype of the inputs."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype


class AbsentData(Dataset):
    """Stands for the data set of a card where a model is built: its words, and no samples."""

    train_size = validation_size = 0

    def __init__(self, card: DataCard) -> None:
        self.classes, self.sample_shape = card.classes, card.sample_shape
        self.vocabulary = card.vocabulary
        self.mean, self.deviation = card.mean, card.deviation

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> NoReturn:
        """There is nothing to open."""
        raise NotImplementedError("the data is absent")

    def train_batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """There is none."""
        raise NotImplementedError("the data is absent")

    def validation_batch(self, indices: Indices) -> Batch:
        """There is none."""
        raise NotImplementedError("the data is absent")
