"""A centre on servers, each of which holds a slice of it: questions and answers over messages.

The payload goes to all servers at once, in the codec's format, and the answers come back in it.
Where there are no servers, a thread of worker 0 does their work; worker 0 itself asks it without
messages.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from arignote.comm.base import World
from arignote.comm.service import Question, Service, begin, say_goodbye
from arignote.exchange.base import Codec, cut
from arignote.exchange.centre.base import Array, Centre, Give, MeetsCentre, Take, Visit
from arignote.exchange.centre.wire import Wire

VISIT, READ, WRITE, BEGIN, BEHIND = range(5)
_WHAT = "the centre"


class RemoteCentre(Centre):
    """The worker's end.

    Args:
        world: of the service, with workers and servers.
        servers: ranks in it that hold the slices, in order.
        desk: number of this vector's desk at each.
        service: where it runs in this very process.
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
    ) -> None:
        self._world, self._servers, self._desk = world, servers, desk
        self._service = service
        self.elements, self.dtype = elements, dtype
        self._slices = cut(elements, len(servers))
        self._wires = [Wire(codec, part.stop - part.start, dtype) for part in self._slices]
        self._values = np.empty(elements, dtype=torch.empty(0, dtype=dtype).numpy().dtype)

    def visit(self, numbers: Sequence[float], give: Give, take: Take, what: str) -> Visit:
        """See `Centre.visit`."""
        give(slice(0, len(self._values)), self._values)
        answers = self._ask([VISIT, *numbers], what, send=self._values, take=self._values)
        take(slice(0, len(self._values)), self._values)
        return Visit(
            staleness=int(answers[0][0]),
            wire_bytes=2 * sum(wire.bytes for wire in self._wires),
            server_load=max(answer[1] for answer in answers),
        )

    def read(self, row: int, out: torch.Tensor) -> None:
        """See `Centre.read`."""
        self._ask([READ, row], _WHAT, take=out.numpy(), plain=True)

    def write(self, row: int, values: torch.Tensor) -> None:
        """See `Centre.write`."""
        self._ask([WRITE, row], _WHAT, send=values.numpy(), plain=True)

    def behind(self) -> int:
        """See `Centre.behind`."""
        return int(self._ask([BEHIND, 0], _WHAT)[0][0])

    def begin(self, given: torch.Tensor | None, behind: int) -> None:
        """See `Centre.begin`."""
        send = None if given is None else given.numpy()
        self._ask([BEGIN, behind, send is not None], _WHAT, send=send, plain=True)

    def _ask(
        self,
        numbers: Sequence[float],
        what: str,
        *,
        send: Array | None = None,
        take: Array | None = None,
        plain: bool = False,
    ) -> list[Sequence[float]]:
        """Ask all servers at once, then take all answers; `plain`: as they are, not encoded."""
        questions: list[Question | None] = []
        answers: list[Sequence[float]] = [()] * len(self._servers)
        for number, server in enumerate(self._servers):
            part, wire = self._slices[number], self._wires[number]
            payload = None if send is None else wire.pack(send[part], plain=plain)
            room = None if take is None else wire.room(plain=plain)
            if self._service is not None and server == self._world.rank:
                answers[number], enclosed = self._service.ask_here(self._desk, numbers, payload)
                if take is not None and enclosed is not None:
                    wire.unpack(enclosed, take[part], plain=plain)
                questions.append(None)
            else:
                questions.append(
                    begin(self._world, server, self._desk, numbers, payload=payload, answer=room)
                )
        for number, question in enumerate(questions):
            if question is not None:
                answers[number] = question.finish(self._world, what)
                if take is not None:
                    part, wire = self._slices[number], self._wires[number]
                    wire.unpack(wire.room(plain=plain), take[part], plain=plain)
        return answers

    def close(self) -> None:
        """Say goodbye to the servers (once for all vectors: by the first)."""
        if self._desk:
            return
        for server in self._servers:
            if self._service is None or server != self._world.rank:
                say_goodbye(self._world, server, _WHAT)
        if self._service is not None:
            self._service.join()


class CentreDesk:
    """A server's end: a slice of the centre, and what `meet` does to it."""

    def __init__(self, elements: int, dtype: torch.dtype, rule: MeetsCentre, codec: Codec) -> None:
        self._rule = rule
        self._codec = codec
        self._dtype = dtype
        self._rows = [torch.zeros(elements, dtype=dtype) for _ in range(1 + rule.rows)]
        self._values = torch.empty(elements, dtype=dtype).numpy()
        self._kept: dict[int, Array] = {}
        self._seen: dict[int, int] = {}
        self._wires: dict[int, Wire] = {}
        self._visits = 0
        self._begun = time.perf_counter()
        self._busy_seconds = 0.0

    def _wire(self, source: int) -> Wire:
        if source not in self._wires:
            self._wires[source] = Wire(self._codec, len(self._values), self._dtype)
        return self._wires[source]

    def payload(self, source: int, numbers: Sequence[float]) -> torch.Tensor | None:
        """Memory of this worker's own."""
        kind = int(numbers[0])
        if kind in (READ, BEHIND) or (kind == BEGIN and not numbers[2]):
            return None
        return self._wire(source).room(plain=kind != VISIT)

    def answer(
        self, source: int, numbers: Sequence[float], payload: torch.Tensor | None
    ) -> tuple[Sequence[float], torch.Tensor | None]:
        """Do what is asked."""
        kind, row, wire = int(numbers[0]), int(numbers[1]), self._wire(source)
        if kind == READ:
            return (), wire.pack(self._rows[row].numpy(), plain=True)
        if kind == BEHIND:
            return (self._visits - self._seen.get(source, 0),), None
        if kind == BEGIN:
            self._seen[source] = self._visits - row
            if self._rule.keeps and payload is not None:
                wire.unpack(payload, self._kept.setdefault(source, self._values.copy()), plain=True)
            return (), None
        assert payload is not None
        if kind == WRITE:
            wire.unpack(payload, self._rows[row].numpy(), plain=True)
            return (), None
        return self._visit(source, numbers[1:], payload, wire)

    def _visit(
        self, source: int, numbers: Sequence[float], payload: torch.Tensor, wire: Wire
    ) -> tuple[Sequence[float], torch.Tensor]:
        begun = time.perf_counter()
        staleness = self._visits - self._seen.get(source, 0)
        self._visits += 1
        self._seen[source] = self._visits
        wire.unpack(payload, self._values)
        centre, *rows = (row.numpy() for row in self._rows)
        kept = self._kept.get(source)
        self._rule.meet(self._values, centre, rows, kept, numbers, staleness, wire.round_trip)
        answer = wire.pack(self._values)
        if kept is not None:
            wire.unpack(answer, kept)
        now = time.perf_counter()
        self._busy_seconds += now - begun
        return (staleness, self._busy_seconds / (now - self._begun)), answer
