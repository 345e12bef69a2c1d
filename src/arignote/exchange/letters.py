"""Letters: a worker's vectors, sent to one other worker; nobody waits for anybody.

A letter is one message: a header of numbers, then every vector, plain or in a codec's format. It
is a copy, in memory that nobody touches until the message has gone.

    out   at most OUT letters on their way; with as many, `full` says that another must not begin
    in    looked for when the rule asks; at most IN are received at a time

The bad story of the draining:
1. all tell each other how many letters they have sent, and each takes in what was sent to it,
2. worker 0 answers one of them, and waits for its answer to go before it comes to the next telling,
3. whom it answers waits in the next telling to hear of that answer.

So what this worker has sent itself is waited for at the very end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from arignote.comm.base import Request, World
from arignote.errors import LostWorkerError, UserError
from arignote.exchange.base import Codec
from arignote.exchange.letter_format import Array, Format

OUT, IN = 2, 2
_LETTER, _GOODBYE = 1, 2
_SPARE = 4
_YIELD_SECONDS, _NAP_SECONDS = 0.01, 0.0005


@dataclass
class Letter:
    """One that is here."""

    source: int
    numbers: list[float]
    vectors: list[Array]
    """To be changed at will, but good only until the mailbox is asked for the next."""


@dataclass(eq=False)
class Incoming:
    """One that is being received."""

    source: int
    number: int
    """How many-th of this source, counted from 1."""
    request: Request
    wire: torch.Tensor


class Mailbox:
    """A worker's letters, in and out, in a world of their own; to make one is collective."""

    def __init__(self, world: World, codec: Codec, vectors: Sequence[torch.Tensor]) -> None:
        self.world = world.split(0)
        self.format = Format(codec, vectors)
        self.lossless = codec.lossless
        """Whether vectors come through as they were."""
        self.gone: dict[int, int] = {}
        """Who has said goodbye -> how many letters it has sent to this worker in all."""
        self._sent, self._asked_for = [0] * world.size, [0] * world.size
        self._inbox: list[Incoming] = []
        self._outbox: list[tuple[Request, torch.Tensor]] = []
        self._free: list[torch.Tensor] = []
        self._lent: torch.Tensor | None = None
        self._arriving = 0
        hosts = {peer.host for peer in world.peers}
        self._mover = Mover(world) if len(hosts) > 1 and world.many_threads else None

    def full(self) -> bool:
        """Whether so many letters are on their way that another must not begin."""
        self._tidy()
        return len(self._outbox) >= OUT

    def send(self, to: int, numbers: Sequence[float], vectors: Sequence[Array]) -> list[Array]:
        """Send a copy of `vectors`; what will arrive of them, good until the next letter."""
        wire = self._room()
        self.format.pack(wire, numbers, vectors)
        self._sent[to] += 1
        self._outbox.append((self.world.send(wire, to, _LETTER), wire))
        self._move()
        return self.format.unpack(wire)[1]

    def next(self) -> Letter | None:
        """The next letter that is here; of one source, in the order in which they were sent."""
        self._tidy()
        self._hear_goodbyes()
        while len(self._inbox) < IN and (source := self.world.probe(_LETTER)) is not None:
            self._inbox.append(self.expect(source))
        held_up = set()
        for incoming in self._inbox:
            if incoming.source not in held_up and incoming.request.done():
                return self._open(incoming)
            held_up.add(incoming.source)
        self._move()
        return None

    def expect(self, source: int) -> Incoming:
        """Begin to receive the next letter of `source`."""
        wire = self._room()
        self._asked_for[source] += 1
        self._arriving += 1
        request = self.world.receive(wire, source, _LETTER)
        return Incoming(source, self._asked_for[source], request, wire)

    def wait_for(self, incoming: Incoming, what: str) -> Letter:
        """One that was expected.

        Raises:
            LostWorkerError: it is not here within the world's deadline.
            UserError: whose letter it is ended its loop and will not write it.
        """
        begun, source = time.monotonic(), incoming.source
        self._move()
        while not incoming.request.done():
            self._hear_goodbyes()
            if self.gone.get(source, incoming.number) < incoming.number:
                raise UserError(
                    f"{self.world.peers[source]} ended its loop while others are at {what}: give "
                    "every worker the same number of batches (replica.batches(...) does)"
                )
            waited = time.monotonic() - begun
            if waited > self.world.timeout_seconds:
                raise LostWorkerError(
                    f"{self.world.peers[source]} sent no letter for {what} within "
                    f"{self.world.timeout_seconds:g} s; look at that worker and the network to it, "
                    "or raise train.timeout_seconds"
                )
            time.sleep(0 if waited < _YIELD_SECONDS else _NAP_SECONDS)
        return self._open(incoming)

    def wait_until_sent(self, what: str, *, but: int = 0) -> None:
        """Until at most the `but` youngest letters are on their way; LostWorkerError: too late."""
        oldest = self._outbox[: max(0, len(self._outbox) - but)]
        self.world.wait([request for request, _ in oldest], what)
        self._tidy()

    def drain(self, handle: Callable[[Letter], None], what: str, rounds: int = 1) -> None:
        """Take in all letters that anybody has sent; collective.

        Args:
            handle: what is done with each; may send answers.
            rounds: 2 where letters are answered (and answers are not).

        Raises:
            LostWorkerError: a letter is not here within the world's deadline.
        """
        rank = self.world.rank
        for _ in range(rounds):
            table = self.world.gather(self._sent, what)
            for source in range(self.world.size):
                while True:
                    mine = [one for one in self._inbox if one.source == source]
                    if not mine and self._asked_for[source] >= table[source][rank]:
                        break
                    incoming = mine[0] if mine else self.expect(source)
                    self.world.wait([incoming.request], what)
                    handle(self._open(incoming))
        self.wait_until_sent(what)
        self._move()

    def say_goodbye(self) -> None:
        """Tell all others that this worker asks for nothing more."""
        for to in range(self.world.size):
            if to != self.world.rank:
                note = torch.tensor([float(self._sent[to])], dtype=torch.float64)
                self._outbox.append((self.world.send(note, to, _GOODBYE), note))

    def close(self, what: str) -> None:
        """After all have said goodbye and the draining; collective."""
        for source in range(self.world.size):
            if source != self.world.rank and source not in self.gone:
                self._hear_goodbye(source, what)
        self.wait_until_sent(what)
        if self._mover is not None:
            self._mover.close()
        self.world.close()

    def _open(self, incoming: Incoming) -> Letter:
        if incoming in self._inbox:
            self._inbox.remove(incoming)
        self._arriving -= 1
        self._give_back(self._lent)
        self._lent = incoming.wire
        return Letter(incoming.source, *self.format.unpack(incoming.wire))

    def _hear_goodbyes(self) -> None:
        while (source := self.world.probe(_GOODBYE)) is not None:
            self._hear_goodbye(source, "a goodbye")

    def _hear_goodbye(self, source: int, what: str) -> None:
        note = torch.zeros(1, dtype=torch.float64)
        self.world.wait([self.world.receive(note, source, _GOODBYE)], what)
        self.gone[source] = int(note)

    def _tidy(self) -> None:
        """Take back the memory of letters that have gone."""
        left = []
        for request, wire in self._outbox:
            if request.done():
                self._give_back(wire)
            else:
                left.append((request, wire))
        self._outbox = left

    def _room(self) -> torch.Tensor:
        return self._free.pop() if self._free else torch.empty(self.format.bytes, dtype=torch.uint8)

    def _give_back(self, wire: torch.Tensor | None) -> None:
        if wire is not None and wire.numel() == self.format.bytes and len(self._free) < _SPARE:
            self._free.append(wire)

    def _move(self) -> None:
        if self._mover is not None:
            self._mover.go(bool(self._arriving or self._outbox))


class Mover:
    """A thread that calls MPI while letters are on their way: over TCP none moves by itself."""

    def __init__(self, world: World) -> None:
        self._world = world.split(0)
        self._busy, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="letters", daemon=True)
        self._thread.start()

    def go(self, busy: bool) -> None:
        """Whether anything is on its way."""
        (self._busy.set if busy else self._busy.clear)()

    def close(self) -> None:
        """End it; collective."""
        self._closed = True
        self._busy.set()
        self._thread.join()
        self._world.close()

    def _run(self) -> None:
        while self._busy.wait() and not self._closed:
            self._world.probe(_LETTER)
            time.sleep(_NAP_SECONDS)
