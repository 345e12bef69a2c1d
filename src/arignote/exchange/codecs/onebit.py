"""onebit: the sign of every element and one scale a block; what is lost is sent later.

    u = x + e                             e: residual of the last rounds
    s = mean|u|                           over a block of 1024
    decoded = s sign(u),  e <- u - decoded

EF-signSGD (Karimireddy et al. 2019, arXiv 1901.09847), error feedback on both sides as in 1-bit
Adam (Tang et al. 2021, arXiv 2102.02888): workers for what they send, owners for the means. We
differ: a scale a block, so that a layer of large gradients does not drown one of small ones; and
sign(0) is +1, which the residual makes up for.

A block whose scale is not finite decodes to NaN, and its residual starts again at zero.

On the wire bit b of a block's word w is the sign of element b W + w, W = words of the block:
that way a loop over w packs W elements at once, and vectorises.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from arignote.exchange.base import Codec
from arignote.exchange.jit import jit

BLOCK = 1024
LANES = 64
SHARE = np.float32(1 / BLOCK)
SIGN = np.uint32(0x80000000)


@jit
def feed(
    values: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float32],
    lanes: npt.NDArray[np.float32],
) -> Any:
    """residual <- values + residual (at most a block); returns its mean magnitude.

    Sums in 64 lanes and in shares of a block: no order is left to the compiler, and a mean that
    float32 can hold does not overflow on the way.
    """
    lanes[:] = 0
    full = values.size // LANES * LANES
    for start in range(0, full, LANES):
        for lane in range(LANES):
            both = values[start + lane] + residual[start + lane]
            residual[start + lane] = both
            lanes[lane] += abs(both) * SHARE
    for j in range(full, values.size):
        both = values[j] + residual[j]
        residual[j] = both
        lanes[j - full] += abs(both) * SHARE
    width = LANES // 2
    while width:
        for lane in range(width):
            lanes[lane] += lanes[lane + width]
        width //= 2
    return lanes[0] * np.float32(BLOCK / values.size)


@jit
def pack(
    residual: npt.NDArray[np.float32], scale: np.float32, words: npt.NDArray[np.uint32]
) -> None:
    """words <- signs of a block; residual <- residual - scale * sign."""
    words[:] = 0
    size, count = np.float32(scale).view(np.uint32), words.size
    for bit in range(-(-residual.size // count)):
        row = residual[bit * count : min(residual.size, bit * count + count)]
        shift = np.uint32(31 - bit)
        for w in range(row.size):
            sign = np.uint32(np.float32(row[w]).view(np.uint32) & SIGN)
            words[w] = np.uint32(words[w] | np.uint32(sign >> shift))
            row[w] -= np.uint32(size | sign).view(np.float32)


@jit
def unpack(
    words: npt.NDArray[np.uint32], scale: np.float32, values: npt.NDArray[np.float32]
) -> None:
    """values <- scale * sign of a block."""
    size, count = np.float32(scale).view(np.uint32), words.size
    for bit in range(-(-values.size // count)):
        row = values[bit * count : min(values.size, bit * count + count)]
        shift = np.uint32(31 - bit)
        for w in range(row.size):
            sign = np.uint32(np.uint32(words[w] << shift) & SIGN)
            row[w] = np.uint32(size | sign).view(np.float32)


@jit
def encode_blocks(
    values: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float32],
    scales: npt.NDArray[np.float32],
    words: npt.NDArray[np.uint32],
) -> None:
    """All blocks: each stays in the first cache from its sum to its bits."""
    lanes = np.empty(LANES, np.float32)
    for block in range(scales.size):
        start, stop = block * BLOCK, min(values.size, block * BLOCK + BLOCK)
        part = words[start // 32 : -(-stop // 32)]
        scale = feed(values[start:stop], residual[start:stop], lanes)
        if np.isfinite(scale):
            pack(residual[start:stop], scale, part)
        else:
            scale = np.float32(np.nan)
            part[:] = 0
            residual[start:stop] = 0
        scales[block] = scale


@jit
def decode_blocks(
    scales: npt.NDArray[np.float32],
    words: npt.NDArray[np.uint32],
    values: npt.NDArray[np.float32],
) -> None:
    """All blocks."""
    for block in range(scales.size):
        start, stop = block * BLOCK, min(values.size, block * BLOCK + BLOCK)
        unpack(words[start // 32 : -(-stop // 32)], scales[block], values[start:stop])


class OneBit(Codec):
    """One bit an element (in words of 32) and four bytes a block."""

    name = "onebit"
    block = BLOCK
    worker_rows = 1
    owner_rows = 1

    def wire_bytes(self, elements: int) -> int:
        """The scales, then the words."""
        return 4 * (-(-elements // BLOCK) + -(-elements // 32))

    def _parts(
        self, wire: torch.Tensor, elements: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint32]]:
        border = 4 * -(-elements // BLOCK)
        bytes_ = wire.numpy()
        return bytes_[:border].view(np.float32), bytes_[border:].view(np.uint32)

    def encode(
        self, values: torch.Tensor, wire: torch.Tensor, state: torch.Tensor, seed: int
    ) -> None:
        """Signs of values + residual, and the new residual."""
        scales, words = self._parts(wire, values.numel())
        encode_blocks(values.numpy(), state[0].numpy(), scales, words)

    def decode(self, wire: torch.Tensor, values: torch.Tensor) -> None:
        """Plus or minus the block's scale."""
        scales, words = self._parts(wire, values.numel())
        decode_blocks(scales, words, values.numpy())
