"""Random crop and mirror of image batches, each sample's own whatever its batch is.

A sample's randomness is one 64-bit number, a hash of (seed, epoch, index) and of nothing
else. So a sample looks the same whichever worker loads it, in whichever batch, after any
resume; and no generator state needs to be saved.

The hash is SplitMix64's: its state advances by an odd constant (the golden ratio's bits),
and a finaliser of shifts and multiplications makes every bit of the state reach every bit of
the result. We mix the seed in, then the epoch, then the index, with a finaliser after each,
so that (seed, epoch) and (seed + 1, epoch - 1) have nothing in common.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from arignote.data.sharding import Indices
from arignote.errors import UserError, unknown

Images = npt.NDArray[np.uint8]
"""Images, shape (N, H, W, C)."""

Bits = npt.NDArray[np.uint64]
"""64 random bits for each sample, shape (N,): see `sample_bits`."""

MODES = ("none", "mirror", "crop", "crop-mirror")
"""What `train.augment` may be."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_LOW_24_BITS = np.uint64(0xFFFFFF)


def check_mode(mode: str) -> str:
    """Return `mode` if it is one of `MODES`.

    Raises:
        UserError: it is not.
    """
    if mode not in MODES:
        raise UserError(unknown("augmentation", mode, MODES))
    return mode


def refuse_augmentation(mode: str, name: str) -> None:
    """Check that `mode` is none, for data sets called `name` that hold no images.

    Raises:
        UserError: it is not.
    """
    if check_mode(mode) != "none":
        raise UserError(
            f"data set {name} holds no images to augment: use train.augment=none, got {mode!r}"
        )


def sample_bits(indices: Indices, *, seed: int, epoch: int) -> Bits:
    """64 random bits for each of `indices` (N,), a pure function of (seed, epoch, index)."""
    # Arrays of one element, because NumPy warns when scalars wrap around and not for arrays.
    state = _finalise(np.array([seed], np.uint64) + _GOLDEN)
    state = _finalise((state ^ np.array([epoch], np.uint64)) + _GOLDEN)
    return _finalise((state ^ indices.astype(np.uint64)) + _GOLDEN)


def augment(images: Images, indices: Indices, mode: str, *, seed: int, epoch: int) -> Images:
    """Crop and mirror `images` (N, H, W, C), the samples `indices` (N,), as `mode` says.

    A crop reflects the image at its borders by an eighth of the side and cuts the original
    size out of that at a random place. Returns the same shape.
    """
    if mode == "none" or not len(indices):
        return images
    bits = sample_bits(indices, seed=seed, epoch=epoch)
    if crops(mode):
        images = _crop(images, bits)
    if mirrors(mode):
        images = np.where(mirrored(bits)[:, None, None, None], images[:, :, ::-1], images)
    return images


def crops(mode: str) -> bool:
    """Whether `mode` cuts a random window out of each image."""
    return mode in ("crop", "crop-mirror")


def mirrors(mode: str) -> bool:
    """Whether `mode` mirrors each second image, at random."""
    return mode in ("mirror", "crop-mirror")


def window_corners(room: tuple[int, int], bits: Bits) -> tuple[Indices, Indices]:
    """Where each sample's window begins: y in 0 .. room[0], x in 0 .. room[1], both (N,)."""
    y = _below(room[0] + 1, bits & _LOW_24_BITS)
    x = _below(room[1] + 1, (bits >> np.uint64(24)) & _LOW_24_BITS)
    return y, x


def mirrored(bits: Bits) -> npt.NDArray[np.bool_]:
    """Which samples are mirrored, (N,)."""
    # The top bit; the corners of windows are drawn from the lower 48.
    return (bits >> np.uint64(63)).astype(bool)


def _crop(images: Images, bits: Bits) -> Images:
    height, width = images.shape[1:3]
    pad_y, pad_x = height // 8, width // 8
    y, x = window_corners((2 * pad_y, 2 * pad_x), bits)
    padded = np.pad(images, ((0, 0), (pad_y, pad_y), (pad_x, pad_x), (0, 0)), mode="reflect")
    windows = sliding_window_view(padded, (height, width), axis=(1, 2))
    cropped: Images = windows[np.arange(len(images)), y, x]
    return cropped.transpose(0, 2, 3, 1)


def _below(bound: int, bits: Bits) -> Indices:
    """Numbers in range(bound) from 24 random bits each, without the bias of a modulus."""
    return ((bits * np.uint64(bound)) >> np.uint64(24)).astype(np.int64)


def _finalise(state: Bits) -> Bits:
    """SplitMix64's finaliser; uint64 arithmetic wraps around as it needs."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
