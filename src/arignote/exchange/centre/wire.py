"""A slice of a vector on its way to a server or back, in parts, plain or in a codec's format.

Between hosts, and where memory cannot be shared, a part is a message. Inside a host it lies in
memory that both ends see, where the server meets it in place; the message is empty and says that it
is there. MPI's own way inside a host copies every part by a system call, at half a copy's speed.
"""

from __future__ import annotations

import numpy as np
import torch

from arignote.comm.questions import WINDOW
from arignote.exchange.base import Codec
from arignote.exchange.centre.base import Array

PART_ELEMENTS = 1 << 20
_ALIGN = 64
_NO_STATE = torch.zeros(0, 0)
_NOTHING = torch.zeros(0, dtype=torch.uint8)


def slots_bytes(elements: int, dtype: torch.dtype) -> int:
    """Of the memory for all parts of such a slice that are under way."""
    return WINDOW * -(-min(elements, PART_ELEMENTS) * dtype.itemsize // _ALIGN) * _ALIGN


class Wire:
    """Memory for the parts of one slice that are under way in one direction.

    Args:
        codec: of what a visit carries; float64 and the codec fp32 travel as they are.
        elements: of the slice.
        shared: memory that both ends see, in which nothing else is under way; bytes, of at least
            `slots_bytes`. None: parts are messages.
    """

    def __init__(
        self, codec: Codec, elements: int, dtype: torch.dtype, shared: torch.Tensor | None = None
    ) -> None:
        self._codec = None if codec.lossless else codec
        self._elements, self._dtype = elements, dtype
        self.parts = -(-elements // PART_ELEMENTS)
        self.shared = shared is not None
        most = min(elements, PART_ELEMENTS)
        needed = slots_bytes(elements, dtype)
        memory = torch.empty(needed, dtype=torch.uint8) if shared is None else shared[:needed]
        self._slots = memory.view(WINDOW, -1)
        self._narrow = np.empty(most if self._codec else 0, dtype=np.float32)
        self._decoded = torch.empty(most if self._codec else 0, dtype=dtype).numpy()
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

    def message(self, number: int, *, plain: bool = False) -> torch.Tensor:
        """What is sent, or received, of part `number`."""
        return _NOTHING if self.shared else self.room(number, plain=plain)

    def sign(self, number: int) -> torch.Tensor | None:
        """What travels the other way where only one has something to send.

        Shared, a message: the part before WINDOW others has been taken, its memory is free.
        """
        return self.message(number) if self.shared else None

    def values(self, number: int) -> Array:
        """Part `number` as numbers, in its very bytes: as it travels plain."""
        return self.room(number, plain=True).view(self._dtype).numpy()

    def blank(self, number: int) -> Array:
        """Memory to write part `number` into, before `seal`; lossless: its very bytes."""
        if self._codec is None:
            return self.values(number)
        place = self.place(number)
        return self._decoded[: place.stop - place.start]

    def seal(self, number: int) -> torch.Tensor:
        """Encode what was written into `blank`; what is sent."""
        if self._codec is not None:
            self.pack(number, self.blank(number))
        return self.message(number)

    def open(self, number: int) -> Array:
        """Part `number`, decoded, to be changed at will."""
        values = self.blank(number)
        if self._codec is not None:
            self.unpack(number, values)
        return values

    def pack(self, number: int, values: Array) -> torch.Tensor:
        """Write `values` as they are sent; the bytes of part `number`."""
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
