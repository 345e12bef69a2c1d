"""Images as bytes: what a worker is fed where its device normalises them."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from arignote.config.spec import Spec
from arignote.data.arrays import ArrayDataset, Arrays
from arignote.data.base import Dataset, Split
from arignote.data.images import ImageDataset
from arignote.data.sharding import Indices
from arignote.errors import UserError


class ByteImages(ArrayDataset):
    """The samples of an image set before they are normalised: (H, W, C) uint8.

    A quarter of the memory, and of what is copied to the device, of float32.
    """

    input_type = np.uint8

    def __init__(self, images: ImageDataset) -> None:
        channels, height, width = images.sample_shape
        self.classes, self.sample_shape = images.classes, (height, width, channels)
        self.train_size, self.validation_size = images.train_size, images.validation_size
        self._images = images

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> NoReturn:
        """They are made of a data set that is open."""
        raise NotImplementedError("see fed_dataset")

    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """See `ArrayDataset.load`.

        Raises:
            DataError: an image cannot be read.
        """
        self._images.load_images(split, indices, out.inputs, seed=seed, epoch=epoch)
        out.targets[:] = self._images.labels(split, indices)


def fed_dataset(dataset: Dataset, normalise: str) -> Dataset:
    """What a worker is fed of `dataset`; `normalise` is `loading.normalise`.

    Raises:
        UserError: the device is to normalise what is no set of images of ours.
    """
    if normalise == "loader":
        return dataset
    if not isinstance(dataset, ImageDataset):
        raise UserError(
            f"loading.normalise={normalise} is for images that Arignote reads, not for "
            f"{type(dataset).__name__}: leave it at 'loader'"
        )
    return ByteImages(dataset)
