"""Resized crop: a part of random area and aspect ratio, brought to the sample's size.

    area   a uniform from `scale` to 1, of the image's
    ratio  r log-uniform from 3/4 to 4/3, width by height
    part   round(sqrt(a W H r)) x round(sqrt(a W H / r)), anywhere inside the image

Szegedy et al. 2014, "Going Deeper with Convolutions", section 6; the numbers are those of
torchvision's RandomResizedCrop: of ten draws the first that fits, else the middle, as wide as
the ratios allow. Resized by bilinear interpolation, antialiased.
"""

from __future__ import annotations

import math

import numpy as np

from arignote.config.augment_options import ResizedCropOptions
from arignote.data.augmentation.base import Augmentation
from arignote.data.draws import Bits, Draws
from arignote.data.pixels import Images, resized, to_picture, to_pixels

_RATIOS = (3 / 4, 4 / 3)
_TRIES = 10

Part = tuple[int, int, int, int]
"""Left, top, right, bottom."""


class ResizedCrop(Augmentation):
    """The step `resized-crop`."""

    name = "resized-crop"

    def __init__(self, options: ResizedCropOptions) -> None:
        """`scale` is the smallest area."""
        self._scale = options.scale

    def apply(self, images: Images, bits: Bits) -> Images:
        """See `Augmentation.apply`: the parts are cut out of `images` as they are."""
        changed = np.empty_like(images)
        for place, own in enumerate(bits.tolist()):
            changed[place] = self.cut(images[place], own, images.shape[1:3])
        return changed

    def cut(self, image: Images, bits: int, size: tuple[int, int]) -> Images:
        """The part of `image` (H, W, C) that `bits` choose, at `size` (height, width)."""
        part = self.part(image.shape[1], image.shape[0], bits)
        return to_pixels(resized(to_picture(image), part, (size[1], size[0])))

    def part(self, width: int, height: int, bits: int) -> Part:
        """Of an image of width x height pixels, the part that `bits` choose."""
        draws = Draws(bits, self.name)
        low, high = (math.log(ratio) for ratio in _RATIOS)
        for _ in range(_TRIES):
            area = draws.uniform(self._scale, 1) * width * height
            ratio = math.exp(draws.uniform(low, high))
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < wide <= width and 0 < tall <= height:
                left, top = draws.below(width - wide + 1), draws.below(height - tall + 1)
                return left, top, left + wide, top + tall
        return _middle(width, height)


def _middle(width: int, height: int) -> Part:
    """All of the image, but for what makes it wider or taller than the ratios allow."""
    wide = min(width, round(height * _RATIOS[1]))
    tall = min(height, round(width / _RATIOS[0]))
    left, top = (width - wide) // 2, (height - tall) // 2
    return left, top, left + wide, top + tall
