"""Image files to arrays, with what was decoded once kept in memory where it fits."""

from __future__ import annotations

import io
import math
import mmap
import struct
import warnings
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from arignote.data.augment import Images
from arignote.data.sharding import Indices
from arignote.data.stages import stage
from arignote.data.storage import read_file
from arignote.errors import DataError

_FORMATS = ("JPEG", "PNG")
_START_PROGRAMS = ("EPS",)
_16_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_THREADS = 4
_KEPT_BYTES = 2**31
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


_alone: list[bool] = []


def decode_alone() -> None:
    """From now on this process decodes in one thread, as one of several that do."""
    _alone.append(True)


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
    """The images of one split, decoded when they are first asked for."""

    def __init__(
        self,
        paths: Sequence[str],
        *,
        size: int,
        spec: str,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """`size` is as in `decode`; `shape` (H, W, 3) is the first image's unless given.

        `spec` opens this data set; errors extend it by the option that helps.

        Raises:
            DataError: the first image is needed and cannot be decoded.
        """
        self._paths = paths
        self._size = size
        self._spec = spec
        self.shape = self._decode(0).shape if shape is None else shape
        everything = (len(paths), *self.shape)
        fits = math.prod(everything) <= _KEPT_BYTES
        self._kept: Images | None = None
        if fits:
            self._kept = _shared_zeros(math.prod(everything)).reshape(everything)
        self._is_kept = _shared_zeros(len(paths)).view(bool)

    def images(self, indices: Indices) -> Images:
        """A fresh array of the images `indices` (N,), shape (N, H, W, 3).

        Raises:
            DataError: one of them cannot be decoded, or has another size than the first.
        """
        if self._kept is None:
            return self._decode_all(indices)
        missing = np.unique(indices[~self._is_kept[indices]])
        if len(missing):
            self._kept[missing] = self._decode_all(missing)
            self._is_kept[missing] = True
        return self._kept[indices]

    def _decode_all(self, indices: Indices) -> Images:
        images = np.empty((len(indices), *self.shape), np.uint8)
        if _alone:
            for place, index in enumerate(indices.tolist()):
                images[place] = self._decode_same(index)
            return images
        with ThreadPoolExecutor(_THREADS) as pool:
            for place, image in enumerate(pool.map(self._decode_same, indices.tolist())):
                images[place] = image
        return images

    def _decode_same(self, index: int) -> Images:
        image = self._decode(index)
        if image.shape != self.shape:
            raise DataError(
                f"{self._paths[index]} is {image.shape[1]}x{image.shape[0]} pixels, the first "
                f"image {self.shape[1]}x{self.shape[0]}: bring all to N pixels a side with "
                f"{self._spec},size=N"
            )
        return image

    def _decode(self, index: int) -> Images:
        try:
            return decode(self._paths[index], self._size)
        except BadImageError as error:
            raise DataError(
                f"{error}: replace it, or leave out such files with {self._spec},skip_bad=true"
            ) from None


def _shared_zeros(size: int) -> npt.NDArray[np.uint8]:
    """Memory that processes forked later share: what one has decoded, none decodes again.

    Its pages take memory only once they are written.
    """
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]
