"""What images are here: arrays of bytes; and Pillow's pictures, made of them and back."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Images: TypeAlias = npt.NDArray[np.uint8]
"""Images, shape (N, H, W, C), or one, (H, W, C)."""

Box: TypeAlias = tuple[float, float, float, float]
"""A part of a picture in its pixels: left, top, right, bottom."""


def to_picture(image: Images) -> Image.Image:
    """Of one image (H, W, C), C 1 or 3."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def to_pixels(picture: Image.Image) -> Images:
    """The inverse of `to_picture`: (H, W, C)."""
    return np.asarray(picture).reshape(picture.height, picture.width, -1)


def resized(picture: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """`box` of `picture` at `size` (W, H), antialiased: each pixel is a mean of all it covers."""
    return picture.resize(size, Image.Resampling.BILINEAR, box=box)
