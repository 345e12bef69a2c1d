"""fp16: IEEE half precision with a power of two a block, so that nothing overflows.

    s = 2^(14 - floor(log2 max|x|))       over a block of 1024
    wire = half(s x), 1/s

Both multiplications are exact, so |decoded - x| <= 2^-11 |x| for all x down to 2^-28 of the
block's largest; what is smaller loses digits, then becomes zero. Without the scale gradients
below 6e-8 would vanish and values above 65504 overflow: such was Theano-MPI's `asa16`. NaN and
infinity pass through: a block that has one is sent with s = 1, and what is finite in it but above
65504 becomes infinite; so does, in any block, what rounds to 2^128.

The bits are converted by integer arithmetic (after Marat Dukhan's FP16 library): it vectorises
on any machine, with or without instructions for half precision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from arignote.exchange.base import Codec
from arignote.exchange.jit import jit

BLOCK = 1024
UP = np.float32(2.0**112)
DOWN = np.float32(2.0**-110)
SHRINK = np.float32(2.0**-112)


@jit
def largest_bits(values: npt.NDArray[np.float32]) -> Any:
    """The bits of max|values|, as int32: these order magnitudes, NaN above infinity above all."""
    largest = np.int32(0)
    for j in range(values.size):
        bits = np.int32(np.float32(values[j]).view(np.int32) & np.int32(0x7FFFFFFF))
        largest = max(largest, bits)
    return largest


@jit
def to_halves(
    values: npt.NDArray[np.float32], scale: np.float32, halves: npt.NDArray[np.uint16]
) -> None:
    """halves <- bits of half(scale * values), to the nearest, ties to even."""
    for j in range(values.size):
        value = np.float32(values[j] * scale)
        bits = value.view(np.uint32)
        twice = np.uint32(bits << np.uint32(1))
        # An addition to 2^(exponent + 13) lets the hardware round the fraction to 10 bits.
        exponent = max(np.uint32(twice & np.uint32(0xFF000000)), np.uint32(0x71000000))
        magic = np.uint32((exponent >> np.uint32(1)) + np.uint32(0x07800000)).view(np.float32)
        rounded = np.float32(magic + (abs(value) * UP) * DOWN).view(np.uint32)
        half = ((rounded >> np.uint32(13)) & np.uint32(0x7C00)) + (rounded & np.uint32(0xFFF))
        half = np.uint32(0x7E00) if twice > np.uint32(0xFF000000) else np.uint32(half)
        halves[j] = np.uint16(((bits >> np.uint32(16)) & np.uint32(0x8000)) | half)


@jit
def from_halves(
    halves: npt.NDArray[np.uint16], factor: np.float32, values: npt.NDArray[np.float32]
) -> None:
    """values <- factor * the number that each of `halves` is the bits of."""
    for j in range(halves.size):
        bits = np.uint32(np.uint32(halves[j]) << np.uint32(16))
        twice = np.uint32(bits << np.uint32(1))
        normal = np.uint32((twice >> np.uint32(4)) + np.uint32(0x70000000)).view(np.float32)
        small = np.uint32((twice >> np.uint32(17)) | np.uint32(0x3F000000)).view(np.float32)
        is_small = twice < np.uint32(0x08000000)
        size = np.float32(small - np.float32(0.5) if is_small else normal * SHRINK)
        signed = np.uint32((bits & np.uint32(0x80000000)) | size.view(np.uint32))
        values[j] = signed.view(np.float32) * factor


@jit
def encode_blocks(
    values: npt.NDArray[np.float32],
    factors: npt.NDArray[np.float32],
    halves: npt.NDArray[np.uint16],
) -> None:
    """All blocks of `values`; factors: 1/s of each, shape (blocks,)."""
    for block in range(factors.size):
        start, stop = block * BLOCK, min(values.size, block * BLOCK + BLOCK)
        exponent = np.int32(largest_bits(values[start:stop]) >> 23)
        # 2^126 at most, so that 1/s is a normal number; NaN and infinity have exponent 255.
        bits = np.int32(min(np.int32(268) - exponent, np.int32(253)) << 23)
        scale = np.float32(1) if exponent == 255 else bits.view(np.float32)
        factors[block] = np.float32(1) / scale
        to_halves(values[start:stop], scale, halves[start:stop])


@jit
def decode_blocks(
    factors: npt.NDArray[np.float32],
    halves: npt.NDArray[np.uint16],
    values: npt.NDArray[np.float32],
) -> None:
    """The way back."""
    for block in range(factors.size):
        start, stop = block * BLOCK, min(values.size, block * BLOCK + BLOCK)
        from_halves(halves[start:stop], factors[block], values[start:stop])


class FP16(Codec):
    """Two bytes an element and four a block, in whole words of four."""

    name = "fp16"
    block = BLOCK

    def wire_bytes(self, elements: int) -> int:
        """The factors, then the halves, then zeros up to a multiple of four."""
        return 4 * (-(-elements // BLOCK) + -(-elements // 2))

    def _parts(
        self, wire: torch.Tensor, elements: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
        border = 4 * -(-elements // BLOCK)
        bytes_ = wire.numpy()
        return bytes_[:border].view(np.float32), bytes_[border:].view(np.uint16)

    def encode(
        self, values: torch.Tensor, wire: torch.Tensor, state: torch.Tensor, seed: int
    ) -> None:
        """Scale and round."""
        factors, halves = self._parts(wire, values.numel())
        halves[values.numel() :] = 0
        encode_blocks(values.numpy(), factors, halves[: values.numel()])

    def decode(self, wire: torch.Tensor, values: torch.Tensor) -> None:
        """Widen and scale back; exact."""
        factors, halves = self._parts(wire, values.numel())
        decode_blocks(factors, halves[: values.numel()], values.numpy())
