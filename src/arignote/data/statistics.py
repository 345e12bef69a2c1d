"""Mean and deviation of pixels, from how often each of their 256 values occurs.

The counts are whole numbers, so the result does not depend on the order or the parts in which
images are counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
"""How often each pixel value occurs in each channel: (C, 256)."""


class Statistics(NamedTuple):
    """Of each channel, in pixel values 0..255."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def count_values(images: npt.NDArray[np.uint8]) -> Counts:
    """The counts of images (..., C), shape (C, 256)."""
    channels = range(images.shape[-1])
    return np.stack([np.bincount(images[..., c].ravel(), minlength=256) for c in channels])


def statistics(counts: Counts) -> Statistics:
    """Mean and standard deviation of what was counted."""
    pixels = counts.sum(axis=1)
    values = np.arange(256.0)
    mean = counts @ values / pixels
    deviation = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(axis=1) / pixels)
    # A channel of one colour stays 0 instead of becoming NaN.
    deviation[deviation == 0] = 1.0
    return Statistics(tuple(mean.tolist()), tuple(deviation.tolist()))
