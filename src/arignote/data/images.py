"""What all sets of labelled images share: augmentation and normalisation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from arignote.config.augment_options import check_device_steps
from arignote.data.arrays import ArrayDataset, Arrays, Targets
from arignote.data.augmentation.base import Augmentation
from arignote.data.augmentation.chain import apply_steps, open_steps
from arignote.data.base import Split
from arignote.data.draws import Bits, sample_bits
from arignote.data.pixels import Images
from arignote.data.sharding import Indices
from arignote.data.stages import stage
from arignote.data.statistics import Statistics, count_values, statistics
from arignote.data.windows import Size, Windows, drawn_windows, middle_windows

if TYPE_CHECKING:
    import torch

STATISTICS_IMAGES = 1000
"""How many training images decide the mean and the standard deviation, at most."""

_CHUNK = 20
"""Images counted at a time, so that large ones do not need much memory."""


class ImageDataset(ArrayDataset):
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
        """Labels have shape (N,).

        Raises:
            UserError: `augment` is no augmentation that we know, or not for such images.
        """
        self.classes = classes
        self.sample_shape = sample_shape
        self.train_size = len(train_labels)
        self.validation_size = len(validation_labels)
        self._steps = open_steps(augment, sample_shape[0])
        self._labels: dict[Split, npt.NDArray[np.integer]] = {
            "train": train_labels,
            "validation": validation_labels,
        }

    @cached_property
    def mean(self) -> tuple[float, ...]:  # type: ignore[override]
        """Of each channel's pixels; looks at images when it is asked for the first time.

        Raises:
            DataError: one of them cannot be had.
        """
        return self._statistics[0]

    @cached_property
    def deviation(self) -> tuple[float, ...]:  # type: ignore[override]
        """Standard deviation of each channel's pixels, as `mean`; 1 for a channel of one colour."""
        return self._statistics[1]

    @abstractmethod
    def _images(self, split: Split, indices: Indices) -> Images:
        """A fresh array of the images `indices` (N,) of `split`: (N, H, W, C) uint8.

        Raises:
            DataError: one of them cannot be read.
        """

    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write inputs (N, C, H, W) float32, normalised, and targets: see `ArrayDataset`.

        Raises:
            DataError: an image cannot be read.
        """
        height, width = self.sample_shape[1:]
        images = np.empty((len(indices), height, width, self.sample_shape[0]), np.uint8)
        self.load_images(split, indices, images, seed=seed, epoch=epoch)
        with stage("copy"):
            normalise(images, self.mean, self.deviation, out.inputs)
            self.write_targets(split, indices, out.targets, seed=seed, epoch=epoch)

    def labels(self, split: Split, indices: Indices) -> npt.NDArray[np.integer]:
        """The classes of samples `indices` (N,), shape (N,)."""
        return self._labels[split][indices]

    def write_targets(
        self, split: Split, indices: Indices, out: Targets, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write the targets of `load` to `out`."""
        out[:] = self.labels(split, indices)

    def load_images(
        self, split: Split, indices: Indices, out: Images, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write the images of `load` to `out` (N, H, W, C) uint8, before they are normalised.

        Raises:
            DataError: an image cannot be read.
        """
        if split == "validation":
            images = self._images(split, indices)
        else:
            bits = sample_bits(indices, seed=seed, epoch=epoch)
            images, steps = self._training_images(indices, bits)
            with stage("augment"):
                images = apply_steps(steps, images, bits)
        with stage("copy"):
            out[:] = images

    @property
    def whole_size(self) -> Size:
        """Of the images before a window is cut out of them."""
        return self._size

    def load_whole(self, split: Split, indices: Indices, out: Images) -> None:
        """Write images of `whole_size`, never augmented, to `out` (N, H, W, C) uint8.

        Raises:
            DataError: an image cannot be read.
        """
        images = self._images(split, indices)
        with stage("copy"):
            out[:] = images

    def windows(self, split: Split, indices: Indices, *, seed: int = 0, epoch: int = 0) -> Windows:
        """What of `load_whole` becomes what `load_images` gives.

        Raises:
            UserError: that takes more than to cut and mirror.
        """
        if split == "validation":
            return middle_windows(len(indices), self._size, self.whole_size)
        bits = sample_bits(indices, seed=seed, epoch=epoch)
        windows, remaining = drawn_windows(self._steps, bits, self._size, self.whole_size)
        check_device_steps(step.name for step in remaining)
        return windows

    def _training_images(
        self, indices: Indices, bits: Bits
    ) -> tuple[Images, Sequence[Augmentation]]:
        """The images `indices` (N,) and what is left to be done with them.

        A member that does the first steps in another way, with the samples' `bits` (N,), leaves
        out those.

        Raises:
            DataError: one of them cannot be read.
        """
        return self._images("train", indices), self._steps

    def brightness(self, inputs: torch.Tensor) -> torch.Tensor:
        """Undo the normalisation of `inputs` (N, C, H, W): 0 (no light) ... 1."""
        shift, scale = (
            inputs.new_tensor(numbers)[:, None, None] for numbers in (self.mean, self.deviation)
        )
        return ((inputs * scale + shift) / 255).clamp_(0, 1)

    @property
    def _size(self) -> Size:
        return self.sample_shape[1], self.sample_shape[2]

    @cached_property
    def _statistics(self) -> Statistics:
        used = min(self.train_size, STATISTICS_IMAGES)
        chosen = np.arange(used, dtype=np.int64) * self.train_size // used
        counts = np.zeros((self.sample_shape[0], 256), np.int64)
        for start in range(0, used, _CHUNK):
            counts += count_values(self._images("train", chosen[start : start + _CHUNK]))
        return statistics(counts)


def normalise(
    images: Images,
    mean: Sequence[float],
    deviation: Sequence[float],
    out: npt.NDArray[np.floating],
) -> None:
    """(x - mean) / deviation of each channel: (N, H, W, C) uint8 to `out` (N, C, H, W) float32."""
    for channel, (shift, scale) in enumerate(zip(mean, deviation, strict=True)):
        plane = out[:, channel]
        np.subtract(images[..., channel], np.float32(shift), out=plane)
        np.divide(plane, np.float32(scale), out=plane)
