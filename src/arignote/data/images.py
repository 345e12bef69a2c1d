"""What all sets of labelled images share: batches, augmentation and normalisation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from arignote.data.augment import Images, augment, check_mode
from arignote.data.base import Batch, Dataset
from arignote.data.sharding import Indices

Split: TypeAlias = Literal["train", "validation"]

STATISTICS_IMAGES = 1000
"""How many training images decide the mean and the standard deviation, at most."""

_CHUNK = 20
"""Images counted at a time, so that large ones do not need much memory."""


class ImageDataset(Dataset):
    """Base of the image sets: members supply uint8 images, the labels and the class names.

    Inputs are normalised by the mean and the standard deviation of each channel, taken over
    evenly spaced images of the training set: the same numbers on every worker.
    """

    def __init__(
        self,
        *,
        classes: tuple[str, ...],
        sample_shape: tuple[int, int, int],
        train_labels: npt.NDArray[np.integer],
        validation_labels: npt.NDArray[np.integer],
        augment: str,
    ) -> None:
        """Labels have shape (N,); `_images` must work already, for it is called here.

        Raises:
            UserError: `augment` is no mode that we know.
            DataError: an image needed for mean and deviation cannot be had.
        """
        self.classes = classes
        self.sample_shape = sample_shape
        self.train_size = len(train_labels)
        self.validation_size = len(validation_labels)
        self._augment = check_mode(augment)
        self._train_labels = train_labels
        self._validation_labels = validation_labels
        self.mean, self.deviation = self._statistics()

    @abstractmethod
    def _images(self, split: Split, indices: Indices) -> Images:
        """A fresh array of the images `indices` (N,) of `split`: (N, H, W, C) uint8.

        Raises:
            DataError: one of them cannot be read.
        """

    def train_batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """Training samples `indices` (N,), augmented as (seed, epoch, index) decides.

        Returns inputs (N, C, H, W) float32, contiguous, and targets (N,) int64.

        Raises:
            DataError: an image cannot be read.
        """
        images = self._images("train", indices)
        images = augment(images, indices, self._augment, seed=seed, epoch=epoch)
        return self._batch(images, self._train_labels[indices])

    def validation_batch(self, indices: Indices) -> Batch:
        """Validation samples `indices` (N,), never augmented; types as in `train_batch`.

        Raises:
            DataError: an image cannot be read.
        """
        images = self._images("validation", indices)
        return self._batch(images, self._validation_labels[indices])

    def brightness(self, inputs: torch.Tensor) -> torch.Tensor:
        """Undo the normalisation of `inputs` (N, C, H, W): 0 (no light) ... 1."""
        shift, scale = _by_channel(self.mean), _by_channel(self.deviation)
        return ((inputs * scale + shift) / 255).clamp_(0, 1)

    def _batch(self, images: Images, labels: npt.NDArray[np.integer]) -> Batch:
        inputs = normalise(images, self.mean, self.deviation)
        return Batch(inputs, torch.from_numpy(labels.astype(np.int64)))

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the pixels of each channel, both C numbers.

        From the counts of the 256 values, which are exact whatever the chunks are.
        """
        channels = self.sample_shape[0]
        used = min(self.train_size, STATISTICS_IMAGES)
        chosen = np.arange(used, dtype=np.int64) * self.train_size // used
        counts = np.zeros((channels, 256), np.int64)
        for start in range(0, used, _CHUNK):
            images = self._images("train", chosen[start : start + _CHUNK])
            for channel in range(channels):
                counts[channel] += np.bincount(images[..., channel].ravel(), minlength=256)
        pixels = counts.sum(axis=1)
        values = np.arange(256.0)
        mean = counts @ values / pixels
        deviation = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / pixels)
        # A channel of one colour stays 0 instead of becoming NaN.
        deviation[deviation == 0] = 1.0
        return tuple(mean.tolist()), tuple(deviation.tolist())


def normalise(images: Images, mean: Sequence[float], deviation: Sequence[float]) -> torch.Tensor:
    """(x - mean) / deviation of each channel: (N, H, W, C) uint8 to (N, C, H, W) float32."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return torch.from_numpy(planes).float().sub_(_by_channel(mean)).div_(_by_channel(deviation))


def _by_channel(numbers: Sequence[float]) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32)[:, None, None]
