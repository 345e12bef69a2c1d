"""Image files to arrays."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from arignote.data.augment import Images
from arignote.data.stages import stage
from arignote.data.storage import read_file
from arignote.errors import DataError

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


def decode_content(content: bytes, path: str, size: int) -> Images:
    """As `decode`, of the bytes of a file; `path` is what errors call it.

    Raises:
        BadImageError: the image is truncated, or no JPEG or PNG.
    """
    try:
        # No other formats: some of Pillow's readers start programs.
        with stage("decode"), Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return np.asarray(_fit(image, (size, size)))
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
                fitted = _fit(image, (width, height))
                # A copy: Pillow's own memory is read-only.
                array = np.array(fitted if channels == 3 else fitted.convert("L"))
    except UnidentifiedImageError:
        raise BadImageError(f"{path} is no picture that Pillow can read") from None
    except _DAMAGED as error:
        raise BadImageError(f"{path} is damaged ({error})") from None
    return array.reshape(1, height, width, channels)


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """As RGB, and of `size` (W, H) unless that is 0."""
    if image.mode == "P" and "transparency" in image.info:
        # Pillow warns when it drops a palette's transparency in one step.
        image = image.convert("RGBA")
    if image.mode in _16_BITS:
        # Pillow would cut such values off at 255: nearly all of the image would be white.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    if not all(size):
        return image
    return ImageOps.fit(image, size, Image.Resampling.BILINEAR)


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
