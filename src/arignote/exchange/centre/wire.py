"""A slice of a vector on its way to a server or back, in parts, plain or in a codec's format."""

from __future__ import annotations

import numpy as np
import torch

from arignote.comm.questions import WINDOW
from arignote.exchange.base import Codec
from arignote.exchange.centre.base import Array

PART_ELEMENTS = 1 << 18
_NO_STATE = torch.zeros(0, 0)


class Wire:
    """Memory for the parts of one slice that are under way in one direction.

    Args:
        codec: of what a visit carries; float64 and the codec fp32 travel as they are.
        elements: of the slice.
    """

    def __init__(self, codec: Codec, elements: int, dtype: torch.dtype) -> None:
        self._codec = None if codec.lossless else codec
        self._elements, self._dtype = elements, dtype
        self.parts = -(-elements // PART_ELEMENTS)
        most = min(elements, PART_ELEMENTS)
        item = torch.empty(0, dtype=dtype).element_size()
        self._slots = [
            torch.empty(item * most, dtype=torch.uint8) for _ in range(min(WINDOW, self.parts))
        ]
        self._narrow = np.empty(most if self._codec else 0, dtype=np.float32)
        self.bytes = sum(len(self.room(number)) for number in range(self.parts))
        """Of a visit, one way."""

    @property
    def lossless(self) -> bool:
        """Whether what arrives is what was sent."""
        return self._codec is None

    def place(self, number: int) -> slice:
        """Where in the slice part `number` is."""
        start = number * PART_ELEMENTS
        return slice(start, min(start + PART_ELEMENTS, self._elements))

    def room(self, number: int, *, plain: bool = False) -> torch.Tensor:
        """The bytes of part `number`; those of part number - WINDOW were in the same place."""
        place, slot = self.place(number), self._slots[number % WINDOW]
        elements = place.stop - place.start
        if plain or self._codec is None:
            return slot[: elements * self._dtype.itemsize]
        return slot[: self._codec.wire_bytes(elements)]

    def values(self, number: int) -> Array:
        """Part `number` as numbers, in its very bytes: as it travels plain."""
        return self.room(number, plain=True).view(self._dtype).numpy()

    def pack(self, number: int, values: Array) -> torch.Tensor:
        """`values` as they are sent: the bytes of part `number`."""
        if self._codec is None:
            np.copyto(self.values(number), values)
            return self.room(number)
        narrow = self._narrow[: len(values)]
        np.copyto(narrow, values, casting="same_kind")
        room = self.room(number)
        self._codec.encode(torch.from_numpy(narrow), room, _NO_STATE, 0)
        return room

    def unpack(self, number: int, values: Array) -> None:
        """Write what `pack` gave into `values`."""
        if self._codec is None:
            np.copyto(values, self.values(number))
        else:
            narrow = self._narrow[: len(values)]
            self._codec.decode(self.room(number), torch.from_numpy(narrow))
            np.copyto(values, narrow)

    def round_trip(self, number: int, values: Array) -> None:
        """Round `values` to what arrives of them, by way of the bytes of part `number`."""
        self.pack(number, values)
        self.unpack(number, values)
