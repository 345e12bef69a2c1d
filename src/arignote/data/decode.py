"""Image files to arrays."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from arignote.data.pixels import Box, Images, resized
from arignote.data.stages import stage
from arignote.data.storage import read_file
from arignote.errors import DataError

Window: TypeAlias = Callable[[int, int], Box]
"""Which part is wanted of an image of so many pixels, width and height."""

_SCALES = (8, 4, 2)
"""By which libjpeg can divide the sides of an image while it decodes it."""
_FORMATS = ("JPEG", "PNG")
_START_PROGRAMS = ("EPS",)
_16_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_THREADS = 4
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""All that Pillow is known to raise for files that are not what they should be."""


class BadImageError(DataError):
    """A file could be read, but does not hold a whole image."""


def decode(path: str, size: int) -> Images:
    """The image in `path` as RGB, shape (H, W, 3).

    With `size` above 0 its shorter side becomes `size` and the middle of the longer one is
    kept: shape (size, size, 3).

    Raises:
        BadImageError: the file is truncated, or no JPEG or PNG.
        DataError: the file cannot be read, which says nothing about the image in it.
    """
    # Read first, so that a failing disk is never taken for a bad image: workers that differ
    # in that would leave out different files.
    return decode_content(read_file(path), path, size)


def decode_content(content: bytes, path: str, size: int, window: Window | None = None) -> Images:
    """As `decode`, of the bytes of a file; `path` is what errors call it.

    With `window`, that part of the image instead of its middle: brought to (size, size, 3), or
    to the image's own shape where `size` is 0.

    Raises:
        BadImageError: the image is truncated, or no JPEG or PNG.
    """
    try:
        # No other formats: some of Pillow's readers start programs.
        with stage("decode"), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            target = (size, size) if size else image.size
            if window:
                box = window(*image.size)
            elif size:
                box = middle(image.size, target)
            else:
                # All of it, so that nothing is resized.
                box = (0, 0, *image.size)
            return np.asarray(_scaled(image, box, target))
    except UnidentifiedImageError:
        raise BadImageError(f"{path} is no JPEG or PNG image") from None
    except _DAMAGED as error:
        raise BadImageError(f"{path} is damaged ({error})") from None


def decode_any(path: str, sample_shape: tuple[int, int, int]) -> Images:
    """The picture in `path`, of any format, as one sample of `sample_shape` (C, H, W), C 1 or 3.

    As validation images are made: it is resized to cover H x W, the middle is kept. Where the
    sample has one channel, a picture in colours becomes grey. Returns (1, H, W, C).

    Raises:
        BadImageError: the file is truncated, or no picture.
        DataError: the file cannot be read.
    """
    channels, height, width = sample_shape
    content = read_file(path)
    Image.init()
    formats = [name for name in Image.ID if name not in _START_PROGRAMS]
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, and of much that is odd in a file: it decodes them.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=formats) as image:
                size = (width, height)
                fitted = _scaled(image, middle(image.size, size), size)
                # A copy: Pillow's own memory is read-only.
                array = np.array(fitted if channels == 3 else fitted.convert("L"))
    except UnidentifiedImageError:
        raise BadImageError(f"{path} is no picture that Pillow can read") from None
    except _DAMAGED as error:
        raise BadImageError(f"{path} is damaged ({error})") from None
    return array.reshape(1, height, width, channels)


def middle(image: tuple[int, int], size: tuple[int, int]) -> Box:
    """The largest part of an `image` that is of the shape of `size`, both (W, H), in its middle."""
    width, height = image
    # Compared as whole numbers, divided last: a ratio is rounded, and would make the part of an
    # image of the same shape larger than the image by its last bit, which Pillow refuses.
    wide, tall = width * size[1], height * size[0]
    if wide > tall:
        width_used, height_used = tall / size[1], float(height)
    else:
        width_used, height_used = float(width), wide / size[0]
    left, top = (width - width_used) / 2, (height - height_used) / 2
    return left, top, left + width_used, top + height_used


def _scaled(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """`box` of `image`, which nobody has decoded yet, as RGB of `size` (W, H).

    A JPEG is decoded at the smallest of libjpeg's scales at which `box` still has as many pixels
    as `size`. A pixel of the smaller scale is the mean of a square, which libjpeg has from fewer
    coefficients: less is computed and less is resized, for values that differ by 1 or 2 of 255.
    """
    wide, tall = (box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1]
    scale = next((scale for scale in _SCALES if min(wide, tall) >= scale), 1)
    if scale > 1 and image.format == "JPEG":
        # Of all sizes that are no smaller than the one asked for, Pillow takes the smallest.
        image.draft("RGB", (image.width // scale, image.height // scale))
        box = (box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale)
    return resized(_rgb(image), box, size)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        # Pillow warns when it drops a palette's transparency in one step.
        image = image.convert("RGBA")
    if image.mode in _16_BITS:
        # Pillow would cut such values off at 255: nearly all of the image would be white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def bad_images(paths: Iterable[str]) -> list[str]:
    """Those of `paths` that do not hold a whole image, in the same order: decodes them all.

    Raises:
        DataError: a file cannot be read at all.
    """
    paths = list(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        return [
            path for path, good in zip(paths, pool.map(_is_whole, paths), strict=True) if not good
        ]


def _is_whole(path: str) -> bool:
    try:
        decode(path, 0)
    except BadImageError:
        return False
    return True


class ImageFiles:
    """A source of `EncodedImages`: each is a file."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths

    def __len__(self) -> int:
        return len(self._paths)

    def name(self, index: int) -> str:
        """Its path."""
        return self._paths[index]

    def read(self, index: int) -> bytes:
        """All of the file.

        Raises:
            DataError: it cannot be read.
        """
        return read_file(self._paths[index])
