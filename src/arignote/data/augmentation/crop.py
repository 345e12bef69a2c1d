"""Random crop: the image's own size, out of the image with reflected borders.

An eighth of the side is added at each border, and a window of the size before is cut at a
random place (for CIFAR-10's 32 pixels this is the usual padding by 4; He et al. 2015 pad with
zeros). What has a window of its own to cut uses `corners` alone: see `data.windows`.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from arignote.config.augment_options import StepOptions
from arignote.data.augmentation.base import Augmentation
from arignote.data.draws import Bits
from arignote.data.pixels import Images
from arignote.data.sharding import Indices

_LOW_24_BITS = np.uint64(0xFFFFFF)


class Crop(Augmentation):
    """The step `crop`. Draws from the lower 48 bits themselves."""

    name = "crop"
    any_channels = True

    def __init__(self, options: StepOptions) -> None:
        """It has no options."""

    def apply(self, images: Images, bits: Bits) -> Images:
        """See `Augmentation.apply`."""
        height, width = images.shape[1:3]
        pad_y, pad_x = margins((height, width))
        y, x = corners((2 * pad_y, 2 * pad_x), bits)
        padded = np.pad(images, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode="reflect")
        windows = sliding_window_view(padded, (height, width), axis=(1, 2))
        cropped: Images = windows[np.arange(len(images)), y, x]
        return cropped.transpose(0, 2, 3, 1)


def margins(size: tuple[int, int]) -> tuple[int, int]:
    """What is added at each border of an image of `size` (H, W): rows, columns."""
    return size[0] // 8, size[1] // 8


def corners(room: tuple[int, int], bits: Bits) -> tuple[Indices, Indices]:
    """Where each sample's window begins: y in 0 .. room[0], x in 0 .. room[1], both (N,)."""
    y = _below(room[0] + 1, bits & _LOW_24_BITS)
    x = _below(room[1] + 1, (bits >> np.uint64(24)) & _LOW_24_BITS)
    return y, x


def _below(bound: int, bits: Bits) -> Indices:
    """Numbers in range(bound) from 24 random bits each, without the bias of a modulus."""
    return ((bits * np.uint64(bound)) >> np.uint64(24)).astype(np.int64)
