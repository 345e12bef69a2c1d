"""Which part of each image is its sample, where that is all there is to its augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from arignote.data.augmentation.base import Augmentation
from arignote.data.augmentation.crop import Crop, corners, margins
from arignote.data.augmentation.mirror import Mirror, mirrored
from arignote.data.draws import Bits
from arignote.data.sharding import Indices

Size: TypeAlias = tuple[int, int]
"""Height and width, in pixels."""


class Windows(NamedTuple):
    """What is wanted of each of N images."""

    y: Indices
    """Its first row, (N,). Rows before the first and after the last are reflections of those
    inside, as `numpy.pad(mode="reflect")` has them."""
    x: Indices
    """Its first column, (N,), in the same way."""
    mirrored: npt.NDArray[np.bool_]
    """Whether left and right change places, (N,)."""


def middle_windows(count: int, size: Size, whole: Size) -> Windows:
    """The middles, of `size`, of `count` images of the size `whole`."""
    y, x = (
        np.full(count, (full - part) // 2, np.int64) for part, full in zip(size, whole, strict=True)
    )
    return Windows(y, x, np.zeros(count, bool))


def drawn_windows(
    steps: Sequence[Augmentation], bits: Bits, size: Size, whole: Size
) -> tuple[Windows, Sequence[Augmentation]]:
    """The windows of samples that have `bits` (N,), and the steps that remain then.

    A crop that has nothing to cut off (`size` is `whole`) reflects the borders: see `Crop`.
    """
    windows = middle_windows(len(bits), size, whole)
    if steps and isinstance(steps[0], Crop):
        pad_y, pad_x = margins(size) if size == whole else (0, 0)
        room = whole[0] - size[0] + 2 * pad_y, whole[1] - size[1] + 2 * pad_x
        y, x = corners(room, bits)
        windows, steps = windows._replace(y=y - pad_y, x=x - pad_x), steps[1:]
    if steps and isinstance(steps[0], Mirror):
        windows, steps = windows._replace(mirrored=mirrored(bits)), steps[1:]
    return windows, steps
