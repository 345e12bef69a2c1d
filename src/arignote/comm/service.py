"""The one of the workers, or the server, that answers questions (`comm.questions`).

It never waits for anybody: what is on its way is looked after in turns, a part of each at a time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from arignote.comm.base import Request, World
from arignote.comm.questions import (
    AGE,
    ANSWER,
    BUSY,
    ENCLOSED,
    GOODBYE,
    NUMBERS,
    PAYLOAD,
    QUESTION,
    WINDOW,
    header,
)
from arignote.errors import LostWorkerError

_YIELD_SECONDS, _MOVING_NAP_SECONDS = 0.005, 0.0001
_LEAST_NAP_SECONDS, _LONGEST_NAP_SECONDS = 0.0005, 0.002


class Parts(Protocol):
    """What comes with a question in parts, and goes back likewise."""

    parts: int

    def room(self, number: int) -> torch.Tensor | None:
        """Where part `number` goes, free again WINDOW parts later; None: nothing comes."""

    def reply(self, number: int) -> torch.Tensor | None:
        """Do what is to be done with part `number`; what goes back, perhaps its room."""


class Desk(Protocol):
    """What answers one kind of question."""

    def answer(self, source: int, numbers: Sequence[float]) -> tuple[Sequence[float], Parts | None]:
        """The numbers of the answer (at most NUMBERS - 2), which go when all parts have gone."""


class _Talk:
    """A question whose parts are under way."""

    def __init__(self, source: int, reply: Sequence[float], parts: Parts) -> None:
        self.source, self.reply, self.parts = source, reply, parts
        self.arriving: deque[Request | None] = deque()
        """None: nothing comes."""
        self.answered = 0
        self.going: deque[Request] = deque()

    @property
    def asked_for(self) -> int:
        """Parts that were received, or are being."""
        return self.answered + len(self.arriving)

    @property
    def gone(self) -> int:
        """Parts that are done with."""
        return self.answered - len(self.going)


class Service:
    """The one that serves.

    Args:
        world: of its own, in which it and all who ask are.
        desks: by their number in the questions.
        clients: how many others will say goodbye.
    """

    def __init__(self, world: World, desks: Mapping[int, Desk], clients: int) -> None:
        self._world, self._desks, self._clients = world, desks, clients
        self._begun = time.perf_counter()
        self._busy_seconds = 0.0
        self._gone: set[int] = set()
        self._talks: list[_Talk] = []
        self._sending: list[tuple[Request, torch.Tensor]] = []
        self._did = time.perf_counter()
        """When there was last something to do."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Serve until all clients have said goodbye and have all their answers."""
        while len(self._gone) < self._clients or self._talks or self._sending:
            begun = time.perf_counter()
            did = self._turn()
            now = time.perf_counter()
            if did:
                self._busy_seconds += now - begun
                self._did = now
            else:
                time.sleep(self._nap_seconds(now))

    def start(self) -> None:
        """Run in a thread."""

        def run() -> None:
            try:
                self.run()
            except BaseException as error:
                self._error = error

        self._thread = threading.Thread(target=run, name="service", daemon=True)
        self._thread.start()

    def answer_here(self, desk: int, numbers: Sequence[float]) -> tuple[list[float], Parts | None]:
        """Ask from the process that serves, beside the thread; parts by `reply_here`."""
        if self._error is not None:
            raise self._error
        with self._lock:
            reply, parts = self._desks[desk].answer(self._world.rank, numbers)
        return self._signed(reply), parts

    def reply_here(self, parts: Parts, number: int) -> torch.Tensor | None:
        """`Parts.reply`, while the thread does none."""
        with self._lock:
            return parts.reply(number)

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

    def _nap_seconds(self, now: float) -> float:
        """Until the next look.

        A server just after it did something has the next part at its door. A thread takes the
        interpreter's lock from whoever trains beside it, and its core: the longer nobody has
        asked, the longer the nap. But a message on its way over TCP moves only when somebody looks.
        """
        silent = now - self._did
        if self._thread is None and silent < _YIELD_SECONDS:
            return _MOVING_NAP_SECONDS if self._world.patient else 0.0
        if self._talks or self._sending:
            return _MOVING_NAP_SECONDS
        return min(max(silent / 4, _LEAST_NAP_SECONDS), _LONGEST_NAP_SECONDS)

    def _turn(self) -> bool:
        """Look after everything once; whether there was anything to do."""
        self._sending = [sent for sent in self._sending if not sent[0].done()]
        did = self._hear()
        for talk in tuple(self._talks):
            did = self._go_on(talk) or did
            # Not before: the next question of this worker may use the same memory.
            if talk.gone == talk.parts.parts:
                self._talks.remove(talk)
                self._send(talk.reply, talk.source)
        return did

    def _hear(self) -> bool:
        source = self._world.probe(QUESTION)
        if source is None:
            return False
        asked = header([])
        self._world.wait([self._world.receive(asked, source, QUESTION)], "a question")
        desk, *numbers = asked.tolist()
        if desk == GOODBYE:
            self._gone.add(source)
            return True
        with self._lock:
            reply, parts = self._desks[int(desk)].answer(source, numbers)
        if parts is None:
            self._send(reply, source)
        else:
            self._talks.append(_Talk(source, reply, parts))
        return True

    def _go_on(self, talk: _Talk) -> bool:
        """Answer a part, if one has arrived; whether there was anything to do."""
        parts, before = talk.parts, talk.gone
        while talk.going and talk.going[0].done():
            talk.going.popleft()
        while talk.asked_for < min(parts.parts, talk.gone + WINDOW):
            room = parts.room(talk.asked_for)
            arriving = None if room is None else self._world.receive(room, talk.source, PAYLOAD)
            talk.arriving.append(arriving)
        if not talk.arriving or not (talk.arriving[0] is None or talk.arriving[0].done()):
            return talk.gone > before
        talk.arriving.popleft()
        with self._lock:
            wire = parts.reply(talk.answered)
        talk.answered += 1
        if wire is not None:
            talk.going.append(self._world.send(wire, talk.source, ENCLOSED))
        return True

    def _send(self, reply: Sequence[float], source: int) -> None:
        wire = header(self._signed(reply))
        self._sending.append((self._world.send(wire, source, ANSWER), wire))

    def _signed(self, reply: Sequence[float]) -> list[float]:
        padded = [*reply, *([0.0] * (NUMBERS - len(reply)))]
        padded[BUSY] = self._busy_seconds
        padded[AGE] = time.perf_counter() - self._begun
        return padded
