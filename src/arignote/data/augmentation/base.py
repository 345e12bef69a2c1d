"""The contract of a step of `train.augment`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from arignote.data.draws import Bits, Draws
from arignote.data.pixels import Images, to_picture, to_pixels


class Augmentation(ABC):
    """Changes images, each as its own 64 random bits say."""

    name: ClassVar[str]
    """As in `train.augment`, and what its draws are for: another name draws other numbers."""
    any_channels: ClassVar[bool] = False
    """Whether it takes images of any number of channels, not only of 1 and 3."""

    @abstractmethod
    def __init__(self, options: Any) -> None:
        """`options`: its own of `config.augment_options`."""

    @abstractmethod
    def apply(self, images: Images, bits: Bits) -> Images:
        """What becomes of `images` (N, H, W, C) uint8, whose samples have `bits` (N,).

        The same shape; `images` themselves stay as they are. An image's result depends on it
        and on its bits alone.
        """


class PictureAugmentation(Augmentation):
    """Base of the steps that change one picture at a time, with Pillow."""

    def apply(self, images: Images, bits: Bits) -> Images:
        """See `Augmentation.apply`."""
        changed = np.empty_like(images)
        for place, own in enumerate(bits.tolist()):
            picture = self.change(to_picture(images[place]), Draws(own, self.name))
            changed[place] = to_pixels(picture)
        return changed

    @abstractmethod
    def change(self, picture: Image.Image, draws: Draws) -> Image.Image:
        """What becomes of `picture`, of mode L or RGB: the same size and mode."""
