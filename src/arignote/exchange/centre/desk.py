"""A server's end of a centre: a slice of it, and what `meet` does to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch

from arignote.comm.service import Parts
from arignote.exchange.base import Codec
from arignote.exchange.centre.base import Array, MeetsCentre
from arignote.exchange.centre.wire import Wire

VISIT, READ, WRITE, BEGIN, BEHIND = range(5)
"""What is asked for: the first number of a question."""


class CentreDesk:
    """Answers questions to a slice of the centre.

    Args:
        elements, dtype: of the slice.
        shared: by the ranks of the workers: memory that they see too (`Wire`).
    """

    def __init__(
        self,
        elements: int,
        dtype: torch.dtype,
        rule: MeetsCentre,
        codec: Codec,
        shared: Mapping[int, torch.Tensor],
    ) -> None:
        self._shared = shared
        self._rule, self._codec = rule, codec
        self._elements, self._dtype = elements, dtype
        self._rows: list[Array] = [
            torch.zeros(elements, dtype=dtype).numpy() for _ in range(1 + rule.rows)
        ]
        self._kept: dict[int, Array] = {}
        self._seen: dict[int, int] = {}
        self._wires: dict[int, Wire] = {}
        self._visits = 0

    def answer(self, source: int, numbers: Sequence[float]) -> tuple[Sequence[float], Parts | None]:
        """See `Desk.answer`."""
        kind, row = int(numbers[0]), int(numbers[1])
        if kind == VISIT:
            return self._visit(source, numbers[1:])
        if kind == BEHIND:
            return (self._visits - self._seen.get(source, 0),), None
        wire = self._wire(source)
        if kind == READ:
            return (), _Reading(wire, self._rows[row])
        if kind == WRITE:
            return (), _Writing(wire, self._rows[row])
        self._seen[source] = self._visits - row
        if not numbers[2]:
            return (), None
        kept = self._rows[0].copy() if self._rule.keeps else None
        if kept is not None:
            self._kept[source] = kept
        return (), _Writing(wire, kept)

    def _wire(self, source: int) -> Wire:
        if source not in self._wires:
            self._wires[source] = Wire(
                self._codec, self._elements, self._dtype, self._shared.get(source)
            )
        return self._wires[source]

    def _visit(self, source: int, numbers: Sequence[float]) -> tuple[Sequence[float], Parts]:
        staleness = self._visits - self._seen.get(source, 0)
        self._visits += 1
        self._seen[source] = self._visits
        visiting = _Visiting(
            self._rule,
            self._wire(source),
            self._rows,
            self._kept.get(source),
            numbers,
            staleness,
        )
        return (staleness,), visiting


class _Visiting:
    """A visit, part by part."""

    def __init__(
        self,
        rule: MeetsCentre,
        wire: Wire,
        rows: Sequence[Array],
        kept: Array | None,
        numbers: Sequence[float],
        staleness: int,
    ) -> None:
        self.parts, self.room = wire.parts, wire.message
        self._rule, self._wire, self._rows, self._kept = rule, wire, rows, kept
        self._numbers, self._staleness = numbers, staleness

    def reply(self, number: int) -> torch.Tensor:
        """Meet it; lossless, in the very memory that it came in and goes back from."""
        wire, place = self._wire, self._wire.place(number)
        values = wire.open(number)
        through = None if wire.lossless else partial(wire.round_trip, number)
        centre, *rows = (row[place] for row in self._rows)
        kept = None if self._kept is None else self._kept[place]
        self._rule.meet(values, centre, rows, kept, self._numbers, self._staleness, through)
        message = wire.seal(number)
        if kept is not None:
            wire.unpack(number, kept)
        return message


class _Reading:
    """A row goes out, plain."""

    def __init__(self, wire: Wire, row: Array) -> None:
        self.parts = wire.parts
        self._wire, self._row = wire, row

    def room(self, number: int) -> torch.Tensor | None:
        """See `Parts.room`."""
        return self._wire.sign(number)

    def reply(self, number: int) -> torch.Tensor:
        """A copy: others may visit while it is on its way."""
        self._wire.values(number)[:] = self._row[self._wire.place(number)]
        return self._wire.message(number, plain=True)


class _Writing:
    """A row comes in, plain; None: nobody wants it."""

    def __init__(self, wire: Wire, row: Array | None) -> None:
        self.parts = wire.parts
        self._wire, self._row = wire, row

    def room(self, number: int) -> torch.Tensor:
        """See `Parts.room`."""
        return self._wire.message(number, plain=True)

    def reply(self, number: int) -> torch.Tensor | None:
        """Put it in its place."""
        if self._row is not None:
            self._row[self._wire.place(number)] = self._wire.values(number)
        return self._wire.sign(number)
