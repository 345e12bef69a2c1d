"""A centre on servers, each of which holds a slice of it: questions and answers over messages.

A visit goes to all servers at once, part by part, in the codec's format, and the answers come back
in it. Lossless, a part is sent from the worker's own memory, met in the server's room for it, and
sent back from there: it is copied by the message alone. (Inside a host not even by that: `Wire`.)
Where there are no servers, a thread of worker 0 does their work; worker 0 itself asks it without
messages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat

import torch

from arignote.comm.base import World
from arignote.comm.questions import AGE, BUSY, Question, Sheaf, say_goodbye
from arignote.comm.service import Service
from arignote.exchange.base import Codec, cut
from arignote.exchange.centre.base import Array, AtOnce, Centre, Give, Take, Visit
from arignote.exchange.centre.desk import BEGIN, BEHIND, READ, VISIT, WRITE
from arignote.exchange.centre.wire import Wire

_WHAT = "the centre"


class RemoteCentre(Centre):
    """The worker's end.

    Args:
        world: of the service, with workers and servers.
        servers: ranks in it that hold the slices, in order.
        desk: number of this vector's desk at each.
        service: where it runs in this very process.
        shared: for each server: memory that it sees too; empty: nothing is shared (`Wire`).
    """

    def __init__(
        self,
        world: World,
        servers: Sequence[int],
        desk: int,
        elements: int,
        dtype: torch.dtype,
        codec: Codec,
        service: Service | None,
        shared: Sequence[torch.Tensor] = (),
    ) -> None:
        self._world, self._servers, self._desk = world, servers, desk
        self._service = service
        self.elements, self.dtype = elements, dtype
        self._slices = cut(elements, len(servers))
        sizes = [part.stop - part.start for part in self._slices]
        if shared:
            self._out = [Wire(codec, *both) for both in zip(sizes, repeat(dtype), shared)]
            self._back = self._out
        else:
            self._out = [Wire(codec, size, dtype) for size in sizes]
            self._back = [Wire(codec, size, dtype) for size in sizes]

    def visit(
        self,
        numbers: Sequence[float],
        give: Give,
        take: Take,
        what: str,
        *,
        payload: Array | None = None,
        at_once: AtOnce | None = None,
    ) -> Visit:
        """See `Centre.visit`; `at_once` has no use here."""

        def sheaf(number: int) -> Sheaf:
            start, out, back = self._slices[number].start, self._out[number], self._back[number]
            return _Visiting(start, out, back, give, take, payload)

        answers = self._ask([VISIT, *numbers], what, sheaf)
        busiest = max(answers, key=lambda answer: answer[BUSY] / answer[AGE])
        return Visit(
            staleness=int(answers[0][0]),
            wire_bytes=2 * sum(wire.bytes for wire in self._out),
            busy_seconds=busiest[BUSY],
            server_seconds=busiest[AGE],
        )

    def read(self, row: int, out: torch.Tensor) -> None:
        """See `Centre.read`."""
        self._ask([READ, row], _WHAT, lambda n: _Reading(self._out[n], out[self._slices[n]]))

    def write(self, row: int, values: torch.Tensor) -> None:
        """See `Centre.write`."""
        self._ask([WRITE, row], _WHAT, lambda n: _Writing(self._out[n], values[self._slices[n]]))

    def behind(self) -> int:
        """See `Centre.behind`."""
        return int(self._ask([BEHIND, 0], _WHAT)[0][0])

    def begin(self, given: torch.Tensor | None, behind: int) -> None:
        """See `Centre.begin`."""
        if given is None:
            self._ask([BEGIN, behind, False], _WHAT)
            return
        values = given
        self._ask(
            [BEGIN, behind, True],
            _WHAT,
            lambda n: _Writing(self._out[n], values[self._slices[n]]),
        )

    def _ask(
        self, numbers: Sequence[float], what: str, sheaf: Callable[[int], Sheaf] | None = None
    ) -> list[list[float]]:
        """Ask all servers at once.

        Args:
            sheaf: (which server, counted from 0) -> what goes to it and comes from it.
        """
        if self._service is not None:
            return [_ask_here(self._service, self._desk, numbers, sheaf and sheaf(0))]
        questions = [
            Question(self._world, server, self._desk, numbers, sheaf and sheaf(number))
            for number, server in enumerate(self._servers)
        ]
        going_on = questions
        while going_on:
            going_on = [question for question in going_on if question.next_part(what)]
        return [question.finish(what) for question in questions]

    def close(self) -> None:
        """Say goodbye to the servers (once for all vectors: by the first)."""
        if self._desk:
            return
        if self._service is not None:
            self._service.join()
            return
        for server in self._servers:
            say_goodbye(self._world, server, _WHAT)


def _ask_here(
    service: Service, desk: int, numbers: Sequence[float], sheaf: Sheaf | None
) -> list[float]:
    """As `Question`, without messages."""
    reply, parts = service.answer_here(desk, numbers)
    if parts is None or sheaf is None:
        return reply
    for number in range(parts.parts):
        payload, room = sheaf.payload(number), parts.room(number)
        if payload is not None and room is not None:
            room.copy_(payload)
        answer, back = service.reply_here(parts, number), sheaf.room(number)
        if answer is not None and back is not None:
            back.copy_(answer)
        sheaf.take(number)
    return reply


class _Visiting:
    """A visit of one server.

    Args:
        start: where its slice begins in the vector.
    """

    def __init__(
        self,
        start: int,
        out: Wire,
        back: Wire,
        give: Give,
        take: Take,
        payload: Array | None,
    ) -> None:
        self.parts, self.room = out.parts, back.message
        self._start, self._out, self._back = start, out, back
        self._give, self._take, self._payload = give, take, payload

    def _place(self, number: int) -> slice:
        place = self._out.place(number)
        return slice(self._start + place.start, self._start + place.stop)

    def payload(self, number: int) -> torch.Tensor:
        """See `Sheaf.payload`."""
        out, place = self._out, self._place(number)
        if out.lossless and self._payload is not None and not out.shared:
            return torch.from_numpy(self._payload[place]).view(torch.uint8)
        self._give(place, out.blank(number))
        return out.seal(number)

    def take(self, number: int) -> None:
        """See `Sheaf.take`."""
        self._take(self._place(number), self._back.open(number))


class _Reading:
    """The answer, as a message, goes straight to its place."""

    def __init__(self, wire: Wire, out: torch.Tensor) -> None:
        self.parts = wire.parts
        self._wire, self._out = wire, out

    def payload(self, number: int) -> torch.Tensor | None:
        """See `Sheaf.payload`."""
        return self._wire.sign(number)

    def room(self, number: int) -> torch.Tensor:
        """See `Sheaf.room`."""
        if self._wire.shared:
            return self._wire.message(number)
        return self._out[self._wire.place(number)].view(torch.uint8)

    def take(self, number: int) -> None:
        """See `Sheaf.take`."""
        if self._wire.shared:
            self._out.numpy()[self._wire.place(number)] = self._wire.values(number)


class _Writing:
    """The payload, as a message, comes straight from its place."""

    def __init__(self, wire: Wire, values: torch.Tensor) -> None:
        self.parts = wire.parts
        self._wire, self._values = wire, values

    def payload(self, number: int) -> torch.Tensor:
        """See `Sheaf.payload`."""
        values = self._values[self._wire.place(number)]
        if not self._wire.shared:
            return values.view(torch.uint8)
        self._wire.values(number)[:] = values.numpy()
        return self._wire.message(number)

    def room(self, number: int) -> torch.Tensor | None:
        """See `Sheaf.room`."""
        return self._wire.sign(number)

    def take(self, number: int) -> None:
        """Nothing has come back."""
