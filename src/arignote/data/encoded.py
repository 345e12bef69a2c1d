"""Encoded images to arrays, with what was decoded once kept in memory where it fits."""

from __future__ import annotations

import math
import mmap
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

from arignote.data.augment import Images
from arignote.data.base import Split
from arignote.data.decode import BadImageError, decode_content
from arignote.data.sharding import Indices
from arignote.errors import DataError

_THREADS = 4
_KEPT_BYTES = 2**31


_alone: list[bool] = []


def decode_alone() -> None:
    """From now on this process decodes in one thread, as one of several that do."""
    _alone.append(True)


class ImageSource(Protocol):
    """JPEG or PNG images by number, wherever they are. Several threads ask at a time."""

    def __len__(self) -> int:
        """How many there are."""

    def name(self, index: int) -> str:
        """What errors call image `index`."""

    def read(self, index: int) -> bytes:
        """Image `index`, encoded.

        Raises:
            DataError: it cannot be read.
        """


class EncodedImages:
    """The images of one split, decoded when they are first asked for."""

    def __init__(
        self,
        source: ImageSource,
        *,
        size: int,
        spec: str,
        advice: str,
        shape: tuple[int, ...] | None = None,
        keep_bytes: int | None = None,
    ) -> None:
        """`size` is as in `decode`; `shape` (H, W, 3) is the first image's unless given.

        If all pixels fit into `keep_bytes` (2 GiB unless given), they are kept once decoded.

        `spec` opens this data set, and takes the option size=N; `advice` is what to do about a
        bad image.

        Raises:
            DataError: the first image is needed and cannot be decoded.
        """
        self._source = source
        self._size = size
        self._spec = spec
        self._advice = advice
        self.shape = self._decode(0).shape if shape is None else shape
        everything = (len(source), *self.shape)
        most = _KEPT_BYTES if keep_bytes is None else keep_bytes
        fits = math.prod(everything) <= most
        self._kept: Images | None = None
        if fits:
            self._kept = _shared_zeros(math.prod(everything)).reshape(everything)
        self._is_kept = _shared_zeros(len(source)).view(bool)

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
        # In the order of the source, which may have to read neighbours together.
        order = np.argsort(indices, kind="stable")
        if _alone:
            for place in order.tolist():
                images[place] = self._decode_same(int(indices[place]))
            return images
        with ThreadPoolExecutor(_THREADS) as pool:
            decoded = pool.map(self._decode_same, indices[order].tolist())
            for place, image in zip(order, decoded, strict=True):
                images[place] = image
        return images

    def _decode_same(self, index: int) -> Images:
        image = self._decode(index)
        if image.shape != self.shape:
            raise DataError(
                f"{self._source.name(index)} is {image.shape[1]}x{image.shape[0]} pixels, the "
                f"first image {self.shape[1]}x{self.shape[0]}: bring all to N pixels a side with "
                f"{self._spec},size=N"
            )
        return image

    def _decode(self, index: int) -> Images:
        content = self._source.read(index)
        try:
            return decode_content(content, self._source.name(index), self._size)
        except BadImageError as error:
            raise DataError(f"{error}: {self._advice}") from None


def _shared_zeros(size: int) -> npt.NDArray[np.uint8]:
    """Memory that processes forked later share: what one has decoded, none decodes again.

    Its pages take memory only once they are written.
    """
    return np.frombuffer(mmap.mmap(-1, max(size, 1)), np.uint8)[:size]


def encoded_splits(
    train: ImageSource,
    validation: ImageSource,
    *,
    size: int,
    spec: str,
    advice: str = "replace it",
    keep_bytes: int | None = None,
) -> dict[Split, EncodedImages]:
    """Both splits, all images of the first one's shape; the rest is as for `EncodedImages`.

    Raises:
        DataError: the first image of `train` cannot be decoded.
    """
    first = EncodedImages(train, size=size, spec=spec, advice=advice, keep_bytes=keep_bytes)
    other = EncodedImages(
        validation,
        size=size,
        spec=spec,
        advice=advice,
        shape=first.shape,
        keep_bytes=keep_bytes,
    )
    return {"train": first, "validation": other}
