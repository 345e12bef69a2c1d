"""What a worker is fed of its data set: images as bytes where its device does the rest."""

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

    Args:
        whole: before they are cropped and mirrored too: see `ImageDataset.windows`.
    """

    input_type = np.uint8

    def __init__(self, images: ImageDataset, *, whole: bool) -> None:
        channels, *size = images.sample_shape
        self.sample_shape = (*(images.whole_size if whole else size), channels)
        self.classes, self._whole = images.classes, whole
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
        if self._whole:
            self._images.load_whole(split, indices, out.inputs)
        else:
            self._images.load_images(split, indices, out.inputs, seed=seed, epoch=epoch)
        self._images.write_targets(split, indices, out.targets, seed=seed, epoch=epoch)


def fed_dataset(dataset: Dataset, settings: Settings) -> Dataset:
    """What a worker is fed of `dataset`: mixed, and as bytes, as the settings say.

    Raises:
        UserError: what is no set of images of ours is to be mixed, or left to the device; or that
            would take more than to cut and mirror.
    """
    mix, loading = parse_mix(settings.train.mix), settings.loading
    if mix is not None:
        images = _expect_images(dataset, f"train.mix={settings.train.mix}", "none")
        dataset = MixedImages(images, mix)
    if loading.normalise == "loader":
        return dataset
    images = _expect_images(dataset, f"loading.normalise={loading.normalise}", "loader")
    whole = loading.augment == "device"
    if whole:
        # A model's own `data` may have been told other steps than `train.augment`.
        images.windows("train", np.zeros(0, np.int64))
    return ByteImages(images, whole=whole)


def _expect_images(dataset: Dataset, setting: str, default: str) -> ImageDataset:
    if not isinstance(dataset, ImageDataset):
        raise UserError(
            f"{setting} is for images that Arignote reads, not for {type(dataset).__name__}: "
            f"leave it at {default!r}"
        )
    return dataset
