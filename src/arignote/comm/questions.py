"""Questions to one that serves (`comm.service`): how a worker asks, and waits for the answer.

A question is a header (which desk, and some numbers), and where the desk expects it a payload in
parts; an answer is numbers, and parts likewise. A part is answered as soon as it has arrived: while
one is on its way, another is worked on at the far end, and a third is taken in here. No more than
WINDOW of them are under way, so both ends need memory for so many only, which stays in the
processor's cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from arignote.comm.base import Request, World

QUESTION, PAYLOAD, ANSWER, ENCLOSED = 11, 12, 13, 14
"""Tags of messages."""
NUMBERS = 8
"""Of a header."""
BUSY, AGE = -2, -1
"""Which numbers of an answer say how many seconds the server has been busy, and there at all."""
GOODBYE = -1.0
WINDOW = 4


class Sheaf(Protocol):
    """What goes with a question in parts, at the end of the worker who asks."""

    parts: int

    def payload(self, number: int) -> torch.Tensor | None:
        """Part `number`, unchanged until `take` of it; None: the question has no payload."""

    def room(self, number: int) -> torch.Tensor | None:
        """Where part `number` of the answer goes; None: the answer has no parts."""

    def take(self, number: int) -> None:
        """Part `number` of the answer is in its room; this is used again WINDOW parts later."""


@dataclass
class _Part:
    number: int
    requests: list[Request]
    held: torch.Tensor | None
    """What is being sent must live until it has gone."""


class Question:
    """A question that has been asked.

    Args:
        world: of the service.
        server: whom to ask.
        desk: its number there.
        numbers: at most NUMBERS - 1.
    """

    def __init__(
        self,
        world: World,
        server: int,
        desk: int,
        numbers: Sequence[float],
        sheaf: Sheaf | None = None,
    ) -> None:
        self._world, self._server, self._sheaf = world, server, sheaf
        self._header, self._reply = header([desk, *numbers]), header([])
        self._requests = [
            world.receive(self._reply, server, ANSWER),
            world.send(self._header, server, QUESTION),
        ]
        self._parts: deque[_Part] = deque()
        self._begun = 0
        self._fill()

    def next_part(self, what: str) -> bool:
        """Wait for the oldest part, take it in, and begin another; False: there are no more.

        Raises:
            LostWorkerError: it did not come within the world's deadline.
        """
        if not self._parts or self._sheaf is None:
            return False
        part = self._parts.popleft()
        self._world.wait(part.requests, what)
        self._sheaf.take(part.number)
        self._fill()
        return True

    def finish(self, what: str) -> list[float]:
        """Wait for all that is still missing; the numbers of the answer.

        Raises:
            LostWorkerError: it did not come within the world's deadline.
        """
        while self.next_part(what):
            pass
        self._world.wait(self._requests, what)
        return self._reply.tolist()

    def _fill(self) -> None:
        sheaf = self._sheaf
        while sheaf is not None and self._begun < sheaf.parts and len(self._parts) < WINDOW:
            number, requests = self._begun, []
            if (room := sheaf.room(number)) is not None:
                requests.append(self._world.receive(room, self._server, ENCLOSED))
            if (payload := sheaf.payload(number)) is not None:
                requests.append(self._world.send(payload, self._server, PAYLOAD))
            self._parts.append(_Part(number, requests, payload))
            self._begun += 1


def ask(world: World, server: int, desk: int, numbers: Sequence[float], what: str) -> list[float]:
    """Ask something without parts, and wait; the numbers of the answer.

    Raises:
        LostWorkerError: no answer within the world's deadline.
    """
    return Question(world, server, desk, numbers).finish(what)


def say_goodbye(world: World, server: int, what: str) -> None:
    """Tell `server` that this worker asks no more."""
    world.wait([world.send(header([GOODBYE]), server, QUESTION)], what)


def header(numbers: Sequence[float]) -> torch.Tensor:
    """`numbers` and zeros, shape (NUMBERS,), float64."""
    padded = [*map(float, numbers), *([0.0] * (NUMBERS - len(numbers)))]
    return torch.tensor(padded, dtype=torch.float64)
