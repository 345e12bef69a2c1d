"""Random images of any shape, for measuring speed without a data set."""

from __future__ import annotations

import re
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_arguments
from arignote.data.base import Split
from arignote.data.images import ImageDataset
from arignote.data.pixels import Images
from arignote.data.sharding import Indices
from arignote.errors import UserError

_FORM = "synthetic:3x32x32,10[,train=N,validation=N]"
_POOL_BYTES = 2**25
_POOL_SEED = 0
_MOST_CLASSES = 1_000_000


class SyntheticOptions(BaseModel):
    """Sizes of the two sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    train: Annotated[int, Field(ge=1, le=10**8)] = 10_000
    validation: Annotated[int, Field(ge=1, le=10**8)] = 1_000


class Synthetic(ImageDataset):
    """`synthetic:CxHxW,CLASSES`: uniformly random images, the same in every run.

    Sample `index` of either set is image `index` of a pool of at most 32 MiB, modulo the
    pool's size, so a batch costs one copy; validation therefore repeats training images. An
    image's class is its place in the pool modulo the number of classes.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, options: SyntheticOptions, *, augment: str
    ) -> None:
        """`shape` is (C, H, W)."""
        channels, height, width = shape
        largest = max(options.train, options.validation)
        fitting = max(1, _POOL_BYTES // (channels * height * width))
        self._pool: Images = np.random.default_rng(_POOL_SEED).integers(
            0, 256, (min(fitting, largest), height, width, channels), dtype=np.uint8
        )
        labels = np.arange(largest) % len(self._pool) % classes
        super().__init__(
            classes=tuple(str(label) for label in range(classes)),
            sample_shape=shape,
            train_labels=labels[: options.train],
            validation_labels=labels[: options.validation],
            augment=augment,
        )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> Synthetic:
        """Open `synthetic:CxHxW,CLASSES[,train=N,validation=N]`.

        Raises:
            UserError: the shape, the number of classes or an option is not what it should be.
        """
        shape, classes = expect_arguments(spec, 2, _FORM)
        options = parse_options(SyntheticOptions, spec, "data set synthetic")
        if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", shape, re.ASCII):
            raise UserError(
                f"data set synthetic: got the shape {shape!r}, expected "
                f"CHANNELSxHEIGHTxWIDTH, each at least 1: write {_FORM}"
            )
        if not re.fullmatch(r"[1-9]\d*", classes, re.ASCII):
            raise UserError(
                f"data set synthetic: got {classes!r} classes, expected a whole number, "
                f"at least 1: write {_FORM}"
            )
        channels, height, width = (int(side) for side in shape.split("x"))
        if channels * height * width > _POOL_BYTES or int(classes) > _MOST_CLASSES:
            raise UserError(
                f"data set synthetic: got {shape},{classes}, expected at most {_POOL_BYTES} values "
                f"an image and {_MOST_CLASSES} classes"
            )
        return cls((channels, height, width), int(classes), options, augment=augment)

    def _images(self, split: Split, indices: Indices) -> Images:
        return self._pool[indices % len(self._pool)]
