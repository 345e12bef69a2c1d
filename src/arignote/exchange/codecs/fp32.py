"""fp32: full precision on the wire, nothing lost.

float32 and float64 vectors travel as they are; narrower ones (bf16, fp16 models) are widened
to float32 for the sum and rounded once at the end.
"""

from __future__ import annotations

import torch

from arignote.exchange.base import Codec


class FP32(Codec):
    """The values themselves: routes send and receive the vector's own memory."""

    name = "fp32"
    lossless = True

    def wire_bytes(self, elements: int) -> int:
        """Four an element."""
        return 4 * elements

    def encode(
        self, values: torch.Tensor, wire: torch.Tensor, state: torch.Tensor, seed: int
    ) -> None:
        """A copy."""
        wire.copy_(values.view(torch.uint8))

    def decode(self, wire: torch.Tensor, values: torch.Tensor) -> None:
        """A copy."""
        values.view(torch.uint8).copy_(wire)
