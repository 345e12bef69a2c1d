"""How a letter lies in its bytes: a header of numbers, then every vector, in a codec's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from arignote.exchange.base import Codec

Array: TypeAlias = npt.NDArray[Any]

_NUMBERS, _ALIGN = 8, 64
_NO_STATE = torch.zeros(0, 0)


@dataclass
class _Part:
    """Where one vector lies in a letter, and room for it, decoded (unused where nothing is)."""

    place: slice
    dtype: np.dtype[Any]
    narrow: npt.NDArray[np.float32]


class Format:
    """How the header and all vectors lie in a letter.

    Args:
        vectors: like those that will be sent: on the CPU, float32 or float64.
    """

    def __init__(self, codec: Codec, vectors: Sequence[torch.Tensor]) -> None:
        self._codec = None if codec.lossless else codec
        self._parts: list[_Part] = []
        self.bytes = 8 * _NUMBERS
        """Of a letter."""
        for vector in vectors:
            elements, plain = vector.numel(), vector.numel() * vector.element_size()
            size = plain if self._codec is None else self._codec.wire_bytes(elements)
            narrow = np.empty(0 if self._codec is None else elements, dtype=np.float32)
            place = slice(self.bytes, self.bytes + size)
            self._parts.append(_Part(place, vector.numpy().dtype, narrow))
            self.bytes += -(-size // _ALIGN) * _ALIGN

    def pack(self, wire: torch.Tensor, numbers: Sequence[float], vectors: Sequence[Array]) -> None:
        """Write a letter into `wire`."""
        raw = wire.numpy()
        header = raw[: 8 * _NUMBERS].view(np.float64)
        header[:] = 0
        header[: len(numbers)] = numbers
        for part, values in zip(self._parts, vectors, strict=True):
            if self._codec is None:
                np.copyto(raw[part.place].view(part.dtype), values)
            else:
                narrow = torch.from_numpy(values.astype(np.float32, copy=False))
                self._codec.encode(narrow, wire[part.place], _NO_STATE, 0)

    def unpack(self, wire: torch.Tensor) -> tuple[list[float], list[Array]]:
        """Its numbers and vectors; these are good until `wire`, or another letter, is touched."""
        raw, vectors = wire.numpy(), []
        for part in self._parts:
            if self._codec is None:
                vectors.append(raw[part.place].view(part.dtype))
            else:
                self._codec.decode(wire[part.place], torch.from_numpy(part.narrow))
                vectors.append(part.narrow.astype(part.dtype, copy=False))
        return raw[: 8 * _NUMBERS].view(np.float64).tolist(), vectors
