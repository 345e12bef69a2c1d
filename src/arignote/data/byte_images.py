"""What a worker is fed of its data set: images as bytes where its device normalises them."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from arignote.config.mix_options import parse_mix
from arignote.config.settings import Settings
from arignote.config.spec import Spec
from arignote.data.arrays import ArrayDataset, Arrays, Targets
from arignote.data.base import Dataset, Split
from arignote.data.images import ImageDataset
from arignote.data.mixing import MixedImages
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

    def new_targets(self, split: Split, count: int) -> Targets:
        """See `ArrayDataset.new_targets`."""
        return self._images.new_targets(split, count)

    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """See `ArrayDataset.load`.

        Raises:
            DataError: an image cannot be read.
        """
        self._images.load_images(split, indices, out.inputs, seed=seed, epoch=epoch)
        self._images.write_targets(split, indices, out.targets, seed=seed, epoch=epoch)


def fed_dataset(dataset: Dataset, settings: Settings) -> Dataset:
    """What a worker is fed of `dataset`: mixed, and as bytes, as the settings say.

    Raises:
        UserError: what is no set of images of ours is to be mixed, or normalised by the device.
    """
    mix, normalise = parse_mix(settings.train.mix), settings.loading.normalise
    if mix is not None:
        images = _expect_images(dataset, f"train.mix={settings.train.mix}", "none")
        dataset = MixedImages(images, mix)
    if normalise == "loader":
        return dataset
    return ByteImages(_expect_images(dataset, f"loading.normalise={normalise}", "loader"))


def _expect_images(dataset: Dataset, setting: str, default: str) -> ImageDataset:
    if not isinstance(dataset, ImageDataset):
        raise UserError(
            f"{setting} is for images that Arignote reads, not for {type(dataset).__name__}: "
            f"leave it at {default!r}"
        )
    return dataset
