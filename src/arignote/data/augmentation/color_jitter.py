"""Colour jitter: brightness, contrast, saturation and hue change, in random order.

    brightness  f p                       f uniform from 1 - x to 1 + x, of each anew
    contrast    m + f (p - m)             m: the mean grey of the image
    saturation  g + f (p - g)             g: the grey of the pixel
    hue         turned by t of the circle t uniform from -x to x

Howard 2013, "Some Improvements on Deep Convolutional Neural Network Based Image
Classification"; as torchvision's ColorJitter does it. Grey images have neither saturation nor
hue: these two leave them alone, as there.
"""

from __future__ import annotations

from PIL import Image, ImageEnhance

from arignote.config.augment_options import ColorJitterOptions
from arignote.data.augmentation.base import PictureAugmentation
from arignote.data.draws import Draws

_KINDS = ("brightness", "contrast", "saturation", "hue")


class ColorJitter(PictureAugmentation):
    """The step `color-jitter`."""

    name = "color-jitter"

    def __init__(self, options: ColorJitterOptions) -> None:
        """x of each kind; 0 leaves that out."""
        self._strengths = {kind: getattr(options, kind) for kind in _KINDS}

    def change(self, picture: Image.Image, draws: Draws) -> Image.Image:
        """See `PictureAugmentation.change`."""
        order = draws.shuffled(len(_KINDS))
        # All are drawn, also those that are left out: no option changes what others draw.
        drawn = {kind: draws.uniform(-1, 1) for kind in _KINDS}
        for kind in (_KINDS[place] for place in order):
            strength = self._strengths[kind]
            if strength:
                picture = _changed(picture, kind, strength * drawn[kind])
        return picture


def _changed(picture: Image.Image, kind: str, by: float) -> Image.Image:
    """`by`: added to the factor 1, or of hue a part of the circle."""
    if kind == "brightness":
        return ImageEnhance.Brightness(picture).enhance(1 + by)
    if kind == "contrast":
        return ImageEnhance.Contrast(picture).enhance(1 + by)
    if picture.mode == "L":
        return picture
    if kind == "saturation":
        return ImageEnhance.Color(picture).enhance(1 + by)
    return _turned(picture, by)


def _turned(picture: Image.Image, by: float) -> Image.Image:
    """Hues are bytes in Pillow, 256 to the circle; torchvision takes 255 of them for it."""
    hue, saturation, value = picture.convert("HSV").split()
    turned = hue.point([(old + int(by * 255)) % 256 for old in range(256)])
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")
