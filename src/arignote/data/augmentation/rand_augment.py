"""RandAugment: n of 14 operations, each image its own, all at strength m.

An operation may be drawn twice. Those that have a direction go either way, by a coin.

Cubuk et al. 2019, "RandAugment: Practical automated data augmentation with a reduced search
space", arXiv 1909.13719. Operations, their strengths and nearest-neighbour sampling are those of
torchvision's RandAugment; what comes in from outside the image is black. As there, solarize at
strength 0 inverts values of 255, and the last three have no strength.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import NamedTuple

from PIL import Image, ImageEnhance, ImageOps

from arignote.config.augment_options import RandAugmentOptions
from arignote.data.augmentation.base import PictureAugmentation
from arignote.data.draws import Draws

_LAST_BIN = 30
_SHIFT = 150 / 331
"""The furthest translation, of the side: AutoAugment's 150 pixels of 331."""


def _moved(picture: Image.Image, *matrix: float) -> Image.Image:
    """`matrix` (a, b, c, d, e, f): pixel (x, y) is that of (a x + b y + c, d x + e y + f)."""
    return picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


class Operation(NamedTuple):
    """One of the 14."""

    largest: float
    """The strength of the last bin; those before are evenly spaced from 0."""
    signed: bool
    """Whether it goes either way."""
    change: Callable[[Image.Image, float], Image.Image]
    """Of a picture and a strength; a mirrored one where that is negative."""


OPERATIONS: dict[str, Operation] = {
    "identity": Operation(0, False, lambda p, v: p),
    "shear-x": Operation(0.3, True, lambda p, v: _moved(p, 1, v, 0, 0, 1, 0)),
    "shear-y": Operation(0.3, True, lambda p, v: _moved(p, 1, 0, 0, v, 1, 0)),
    "translate-x": Operation(
        _SHIFT, True, lambda p, v: _moved(p, 1, 0, -int(v * p.width), 0, 1, 0)
    ),
    "translate-y": Operation(
        _SHIFT, True, lambda p, v: _moved(p, 1, 0, 0, 0, 1, -int(v * p.height))
    ),
    "rotate": Operation(30, True, lambda p, v: p.rotate(v)),
    "brightness": Operation(0.9, True, lambda p, v: ImageEnhance.Brightness(p).enhance(1 + v)),
    "color": Operation(0.9, True, lambda p, v: ImageEnhance.Color(p).enhance(1 + v)),
    "contrast": Operation(0.9, True, lambda p, v: ImageEnhance.Contrast(p).enhance(1 + v)),
    "sharpness": Operation(0.9, True, lambda p, v: ImageEnhance.Sharpness(p).enhance(1 + v)),
    "posterize": Operation(4, False, lambda p, v: ImageOps.posterize(p, 8 - round(v))),
    "solarize": Operation(255, False, lambda p, v: ImageOps.solarize(p, ceil(255 - v))),
    "autocontrast": Operation(0, False, lambda p, v: ImageOps.autocontrast(p)),
    "equalize": Operation(0, False, lambda p, v: ImageOps.equalize(p)),
}
"""By name, in torchvision's order."""


class RandAugment(PictureAugmentation):
    """The step `randaugment`."""

    name = "randaugment"

    def __init__(self, options: RandAugmentOptions) -> None:
        """`n` operations, `m` their bin."""
        self._count = options.n
        self._bin = options.m

    def change(self, picture: Image.Image, draws: Draws) -> Image.Image:
        """See `PictureAugmentation.change`."""
        operations = list(OPERATIONS.values())
        for _ in range(self._count):
            operation = operations[draws.below(len(operations))]
            # Drawn for each, so that a draw does not depend on which came before.
            direction = -1 if draws.below(2) and operation.signed else 1
            strength = operation.largest * self._bin / _LAST_BIN
            picture = operation.change(picture, direction * strength)
        return picture
