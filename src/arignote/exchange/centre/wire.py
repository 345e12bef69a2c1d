"""A slice of a vector on its way to a server or back, plain or in a codec's format."""

from __future__ import annotations

import numpy as np
import torch

from arignote.exchange.base import Codec
from arignote.exchange.centre.base import Array

_NO_STATE = torch.zeros(0, 0)


class Wire:
    """Memory for one slice in each direction.

    Args:
        codec: of what a visit carries; float64 and the codec fp32 travel as they are.
    """

    def __init__(self, codec: Codec, elements: int, dtype: torch.dtype) -> None:
        self._codec = None if codec.lossless else codec
        self._sent = torch.empty(elements, dtype=dtype)
        self._arrived = torch.empty(elements, dtype=dtype)
        self._narrow = np.empty(elements, dtype=np.float32)
        self.bytes = elements * self._sent.element_size()
        """Of a visit, one way."""
        if self._codec is not None:
            self.bytes = self._codec.wire_bytes(elements)
            self._coded_out = torch.empty(self.bytes, dtype=torch.uint8)
            self._coded_in = torch.empty(self.bytes, dtype=torch.uint8)

    def room(self, *, plain: bool = False) -> torch.Tensor:
        """Where what arrives goes."""
        return self._arrived if plain or self._codec is None else self._coded_in

    def pack(self, values: Array, *, plain: bool = False) -> torch.Tensor:
        """`values` as they are sent."""
        if plain or self._codec is None:
            np.copyto(self._sent.numpy(), values)
            return self._sent
        np.copyto(self._narrow, values, casting="same_kind")
        self._codec.encode(torch.from_numpy(self._narrow), self._coded_out, _NO_STATE, 0)
        return self._coded_out

    def unpack(self, wire: torch.Tensor, values: Array, *, plain: bool = False) -> None:
        """Write what `pack` gave into `values`."""
        if plain or self._codec is None:
            np.copyto(values, wire.numpy())
        else:
            self._codec.decode(wire, torch.from_numpy(self._narrow))
            np.copyto(values, self._narrow)

    def round_trip(self, values: Array) -> None:
        """Round `values` to what arrives of them."""
        if self._codec is not None:
            self.unpack(self.pack(values), values)
