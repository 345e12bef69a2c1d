"""int8: 127 levels either side of zero a block of 512, rounded at random so that the mean is right.

    s = max|x| / 127                      over a block
    q = floor(x/s) + [u < x/s - floor(x/s)],  u uniform in [0, 1)
    decoded = s q,  E[decoded] = x,  |decoded - x| < s

QSGD (Alistarh et al. 2017, arXiv 1610.02132). We differ: the scale is the block's largest
magnitude, not its 2-norm, which wastes no level; u is a hash of (seed, index), so a round can be
repeated bit for bit and the loop vectorises. Unbiased, so there is no error feedback.

A block with NaN or infinity decodes to NaN; one below 1.5e-36 to zero; float32's very largest
number may come back infinite.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from arignote.exchange.base import Codec
from arignote.exchange.jit import jit

BLOCK = 512
LEVELS = np.float32(127)
STEP = np.float32(2.0**-24)
NOT_FINITE = np.int32(0x7F800000)


@jit
def hashed(index: Any, key: np.uint32) -> Any:
    """32 bits that look random, of an index and a key (Chris Wellons' lowbias32)."""
    bits = np.uint32(np.uint32(index) ^ key)
    bits = np.uint32((bits ^ np.uint32(bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
    bits = np.uint32((bits ^ np.uint32(bits >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(bits ^ np.uint32(bits >> np.uint32(16)))


@jit
def quantise(
    values: npt.NDArray[np.float32],
    inverse: np.float32,
    first: int,
    key: np.uint32,
    levels: npt.NDArray[np.int8],
) -> None:
    """levels <- values * inverse, rounded at random; `first`: the index of values[0]."""
    for j in range(values.size):
        chance = np.float32(np.int32(hashed(first + j, key) >> np.uint32(8))) * STEP
        level = min(max(values[j] * inverse, -LEVELS), LEVELS)
        below = np.floor(level)
        levels[j] = np.int8(np.int32(below) + np.int32(chance < level - below))


@jit
def encode_blocks(
    values: npt.NDArray[np.float32],
    scales: npt.NDArray[np.float32],
    levels: npt.NDArray[np.int8],
    key: np.uint32,
) -> None:
    """All blocks of `values`; scales: s of each, shape (blocks,)."""
    for block in range(scales.size):
        start, stop = block * BLOCK, min(values.size, block * BLOCK + BLOCK)
        largest = np.int32(0)
        for j in range(start, stop):
            bits = np.int32(np.float32(values[j]).view(np.int32) & np.int32(0x7FFFFFFF))
            largest = max(largest, bits)
        scale = np.float32(np.int32(largest).view(np.float32) / LEVELS)
        inverse = np.float32(1) / scale
        if largest >= NOT_FINITE:
            scale = np.float32(np.nan)
        elif not np.isfinite(inverse):
            scale = np.float32(0)
        scales[block] = scale
        if scale > 0:
            quantise(values[start:stop], inverse, start, key, levels[start:stop])
        else:
            levels[start:stop] = 0


@jit
def decode_blocks(
    scales: npt.NDArray[np.float32],
    levels: npt.NDArray[np.int8],
    values: npt.NDArray[np.float32],
) -> None:
    """values <- scale * level."""
    for block in range(scales.size):
        start, stop = block * BLOCK, min(values.size, block * BLOCK + BLOCK)
        part, scale = values[start:stop], scales[block]
        for j, level in enumerate(levels[start:stop]):
            part[j] = np.float32(level) * scale


class INT8(Codec):
    """One byte an element and four a block, in whole words of four."""

    name = "int8"
    block = BLOCK

    def wire_bytes(self, elements: int) -> int:
        """The scales, then the levels, then zeros up to a multiple of four."""
        return 4 * (-(-elements // BLOCK) + -(-elements // 4))

    def _parts(
        self, wire: torch.Tensor, elements: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
        border = 4 * -(-elements // BLOCK)
        bytes_ = wire.numpy()
        return bytes_[:border].view(np.float32), bytes_[border:].view(np.int8)

    def encode(
        self, values: torch.Tensor, wire: torch.Tensor, state: torch.Tensor, seed: int
    ) -> None:
        """Scale and round at random."""
        scales, levels = self._parts(wire, values.numel())
        levels[values.numel() :] = 0
        key = np.uint32((seed ^ (seed >> 32)) * 0x9E3779B1 & 0xFFFFFFFF)
        encode_blocks(values.numpy(), scales, levels[: values.numel()], key)

    def decode(self, wire: torch.Tensor, values: torch.Tensor) -> None:
        """Scale back."""
        scales, levels = self._parts(wire, values.numel())
        decode_blocks(scales, levels[: values.numel()], values.numpy())
