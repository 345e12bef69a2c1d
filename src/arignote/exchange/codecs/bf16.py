"""bf16: the upper 16 bits of a float32, rounded to the nearest (ties to even).

    |decoded - x| <= 2^-8 |x|

The range is float32's, so there is no scale; a value above bf16's largest (3.39e38) becomes
infinite, as IEEE rounding has it. NaN stays NaN.
"""

from __future__ import annotations

import torch

from arignote.exchange.base import Codec


class BF16(Codec):
    """Two bytes an element; both conversions are PyTorch's own vectorised loops."""

    name = "bf16"

    def wire_bytes(self, elements: int) -> int:
        """Two an element."""
        return 2 * elements

    def encode(
        self, values: torch.Tensor, wire: torch.Tensor, state: torch.Tensor, seed: int
    ) -> None:
        """Round."""
        wire.view(torch.bfloat16).copy_(values)

    def decode(self, wire: torch.Tensor, values: torch.Tensor) -> None:
        """Widen; exact."""
        values.copy_(wire.view(torch.bfloat16))
