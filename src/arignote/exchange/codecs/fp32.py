"""fp32: full precision on the wire, nothing lost.

float32 and float64 vectors travel as they are; narrower ones (bf16, fp16 models) are widened
to float32 for the sum and rounded once at the end.
"""

from __future__ import annotations

import torch

from arignote.exchange.base import Codec


class FP32(Codec):
    """The vector itself, or its float32 copy."""

    name = "fp32"
    lossless = True

    def encode(self, vector: torch.Tensor) -> torch.Tensor:
        """`vector` itself where it is float32 or float64 (no copy), else widened."""
        if vector.dtype in (torch.float32, torch.float64):
            return vector
        return vector.float()

    def decode_(self, wire: torch.Tensor, vector: torch.Tensor) -> None:
        """Round back into a narrower vector; nothing to do where `wire` is `vector`."""
        if wire is not vector:
            vector.copy_(wire)
