"""Questions and answers between workers and one of them that serves, whoever is ready first.

A question is a header (which desk, and some numbers), and a payload where the desk expects one;
an answer is numbers, and a payload likewise. The one that serves never waits for anybody: what
is on its way is looked after in turns. Who asks waits, with the world's deadline.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from arignote.comm.base import Request, World
from arignote.errors import LostWorkerError

_QUESTION, _PAYLOAD, _ANSWER, _ENCLOSED = 11, 12, 13, 14
_NUMBERS = 8
_GOODBYE = -1.0
_MOVING_NAP_SECONDS, _LEAST_NAP_SECONDS, _LONGEST_NAP_SECONDS = 0.0001, 0.0005, 0.002


class Desk(Protocol):
    """What answers one kind of question."""

    def payload(self, source: int, numbers: Sequence[float]) -> torch.Tensor | None:
        """Memory for what follows a question; None: nothing follows."""

    def answer(
        self, source: int, numbers: Sequence[float], payload: torch.Tensor | None
    ) -> tuple[Sequence[float], torch.Tensor | None]:
        """The answer; the tensor in it must not change before the next question of `source`."""


def ask(
    world: World,
    server: int,
    desk: int,
    numbers: Sequence[float],
    what: str,
    *,
    payload: torch.Tensor | None = None,
    answer: torch.Tensor | None = None,
) -> list[float]:
    """Ask and wait; the numbers of the answer, whose payload goes into `answer`.

    Raises:
        LostWorkerError: no answer within the world's deadline.
    """
    requests = begin(world, server, desk, numbers, payload=payload, answer=answer)
    return requests.finish(world, what)


@dataclass
class Question:
    """A question that has been asked."""

    requests: list[Request]
    numbers: torch.Tensor
    held: tuple[torch.Tensor, ...]
    """What must live, and stay as it is, until the answer is there."""

    def finish(self, world: World, what: str) -> list[float]:
        """Wait for the answer."""
        world.wait(self.requests, what)
        return self.numbers.tolist()


def begin(
    world: World,
    server: int,
    desk: int,
    numbers: Sequence[float],
    *,
    payload: torch.Tensor | None = None,
    answer: torch.Tensor | None = None,
) -> Question:
    """Ask and go on; see `ask`."""
    header = _header([desk, *numbers])
    replied = torch.zeros(_NUMBERS, dtype=torch.float64)
    requests = [world.receive(replied, server, _ANSWER)]
    if answer is not None:
        requests.append(world.receive(answer, server, _ENCLOSED))
    requests.append(world.send(header, server, _QUESTION))
    if payload is not None:
        requests.append(world.send(payload, server, _PAYLOAD))
    return Question(requests, replied, (header,) if payload is None else (header, payload))


def say_goodbye(world: World, server: int, what: str) -> None:
    """Tell `server` that this worker asks no more."""
    world.wait([world.send(_header([_GOODBYE]), server, _QUESTION)], what)


def _header(numbers: Sequence[float]) -> torch.Tensor:
    padded = [*map(float, numbers), *([0.0] * (_NUMBERS - len(numbers)))]
    return torch.tensor(padded, dtype=torch.float64)


@dataclass
class _Arriving:
    source: int
    desk: int
    numbers: list[float]
    payload: torch.Tensor
    request: Request


class Service:
    """The one that serves.

    Args:
        world: of its own, in which it and all who ask are.
        desks: by their number in the questions.
        clients: how many others will say goodbye.
    """

    def __init__(self, world: World, desks: Mapping[int, Desk], clients: int) -> None:
        self.busy_seconds = 0.0
        """Spent in answering; its load is this over the time that it ran."""
        self._world, self._desks, self._clients = world, desks, clients
        self._gone: set[int] = set()
        self._arriving: list[_Arriving] = []
        self._sending: list[tuple[Request, torch.Tensor]] = []
        self._did = time.monotonic()
        """When there was last something to do."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Serve until all clients have said goodbye and have all their answers."""
        while len(self._gone) < self._clients or self._arriving or self._sending:
            if self._turn():
                self._did = time.monotonic()
            else:
                time.sleep(self._nap_seconds())

    def start(self) -> None:
        """Run in a thread."""

        def run() -> None:
            try:
                self.run()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="service", daemon=True)
        self._thread.start()

    def ask_here(
        self, desk: int, numbers: Sequence[float], payload: torch.Tensor | None = None
    ) -> tuple[Sequence[float], torch.Tensor | None]:
        """The same question from the process that serves, beside the thread."""
        if self._error is not None:
            raise self._error
        with self._lock:
            return self._desks[desk].answer(self._world.rank, numbers, payload)

    def join(self) -> None:
        """Wait for the thread, after all goodbyes; raise what has stopped it.

        Raises:
            LostWorkerError: somebody did not say goodbye within the world's deadline.
        """
        assert self._thread is not None
        self._thread.join(self._world.timeout_seconds)
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            here = {self._world.rank, *self._gone}
            names = [str(p) for rank, p in enumerate(self._world.peers) if rank not in here]
            raise LostWorkerError(
                f"{', '.join(names)} did not say goodbye within {self._world.timeout_seconds:g} s: "
                "look at that worker, or raise train.timeout_seconds"
            )

    def _nap_seconds(self) -> float:
        """Until the next look.

        Each takes the interpreter's lock from whoever trains beside the thread, and its core. So
        the longer nobody has asked, the longer the nap; but a message that is on its way over TCP
        moves only when somebody looks.
        """
        if self._arriving or self._sending:
            return _MOVING_NAP_SECONDS
        quarter = (time.monotonic() - self._did) / 4
        return min(max(quarter, _LEAST_NAP_SECONDS), _LONGEST_NAP_SECONDS)

    def _turn(self) -> bool:
        """Look after everything once; whether there was anything to do."""
        self._sending = [sent for sent in self._sending if not sent[0].done()]
        did = self._hear()
        arrived = [one for one in self._arriving if one.request.done()]
        for one in arrived:
            self._arriving.remove(one)
            self._answer(one.source, one.desk, one.numbers, one.payload)
        return did or bool(arrived)

    def _hear(self) -> bool:
        source = self._world.probe(_QUESTION)
        if source is None:
            return False
        header = torch.zeros(_NUMBERS, dtype=torch.float64)
        self._world.wait([self._world.receive(header, source, _QUESTION)], "a question")
        desk, *numbers = header.tolist()
        if desk == _GOODBYE:
            self._gone.add(source)
            return True
        payload = self._desks[int(desk)].payload(source, numbers)
        if payload is None:
            self._answer(source, int(desk), numbers, None)
        else:
            request = self._world.receive(payload, source, _PAYLOAD)
            self._arriving.append(_Arriving(source, int(desk), numbers, payload, request))
        return True

    def _answer(
        self, source: int, desk: int, numbers: Sequence[float], payload: torch.Tensor | None
    ) -> None:
        begun = time.perf_counter()
        with self._lock:
            reply, enclosed = self._desks[desk].answer(source, numbers, payload)
        for wire, tag in ((_header(reply), _ANSWER), (enclosed, _ENCLOSED)):
            if wire is not None:
                self._sending.append((self._world.send(wire, source, tag), wire))
        self.busy_seconds += time.perf_counter() - begun
