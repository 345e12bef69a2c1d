"""SGP: every step each worker pushes half of what it holds to the next of ever new peers.

Step k of worker i of n, whose replica holds z_i = x_i / w_i, at which its gradient is taken:

    x_i <- x_i + (what the optimizer changes at z_i)
    send (x_i / 2, w_i / 2) to (i + h) mod n,    keep as much
    x_i <- x_i + x_r,    w_i <- w_i + w_r        of the letter of step k - tau from (i - h') mod n
    z_i <- x_i / w_i

    z_i  the replica                                                  replica.parameters
    w_i  how much it holds; 1 at the start                            SGP.weight
    h    2^(k mod (floor(log2(n - 1)) + 1)); h' is that of k - tau    hop
    tau  steps that a letter is late                                  options.overlap

    consensus: (1/n) sum_i x_i, with sum_i w_i = n, letters on their way counted

Assran, Loizou, Ballas, Rabbat, arXiv 1811.10792: push-sum over the directed exponential graph with
one peer. x is not kept: the replica's z and w say what it is, and a letter carries (z, w/2). We
differ: a letter is mixed in exactly tau steps late, not at most, so who is how fast does not change
the training; with tau = 0 all w_i are 1 at the end of every step. A worker's gradient counts the
same whatever its samples. Where a codec rounds what is sent, the sender keeps the difference.

Letters that are on their way at a checkpoint are received and saved, and mixed in when they are
due: a run that saves trains like one that does not. The consensus counts them. Up to tau + 1
vectors are on their way for each worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from arignote.config.rule_options import SGPOptions
from arignote.exchange.jit import load
from arignote.exchange.letter_format import Array
from arignote.exchange.letters import Incoming, Mailbox
from arignote.frameworks.base import Replica
from arignote.rules.alone import step_alone
from arignote.rules.base import Bring
from arignote.rules.letters import (
    host_of,
    keep_rest,
    keep_rest_,
    mix,
    mix_,
    on_host,
    way_of_letters,
)
from arignote.rules.periodic import Periodic


def hop(step: int, workers: int) -> int:
    """How far on the peer of `step` (counted from 0) is: 1, 2, 4, ... below `workers`, in turn."""
    return 1 << step % (workers - 1).bit_length()


def stretch_(z: torch.Tensor, before: torch.Tensor, weight: float) -> None:
    """z <- before + (z - before) / weight: a change of x, as one of z = x / weight."""
    torch.sub(z, before, out=before)
    z.add_(before, alpha=1 / weight - 1)


@dataclass
class Flight:
    """The letter of a step, on its way or here."""

    step: int
    incoming: Incoming | None
    weight: float = 0.0
    vectors: Sequence[Array] = ()
    """Copies, once it is here and not yet due."""


class SGP(Periodic):
    """Stochastic gradient push; of `Periodic` only the meetings that bring a wish to stop."""

    options: SGPOptions
    averages = False

    weight = 1.0
    """w_i."""
    _box: Mailbox | None = None

    @property
    def way(self) -> str:
        """See `Rule.way`."""
        return way_of_letters(self)

    def start(self, replica: Replica) -> None:
        """As `Rule.start`, and open the mailbox."""
        super().start(replica)
        self._flights: deque[Flight] = deque()
        if self.world.size == 1:
            self.remarks.append(
                "sgp with one worker is plain SGD: there is nobody to exchange with"
            )
            return
        hosts = [host_of(vector) for vector in replica.parameters]
        load((mix_, keep_rest_), [host.numpy().dtype for host in hosts])
        self._box = Mailbox(self.world, self.exchange.codec, hosts)

    def is_due(self, replica: Replica) -> bool:
        """Never: no round needs all workers."""
        return False

    def round(self, replica: Replica, weight: float | None) -> None:
        """There is none."""
        raise NotImplementedError

    def update(self, replica: Replica, bring: Bring) -> None:
        """A step from the gradient at z, applied to x."""
        if self.weight == 1:
            step_alone(self, replica, bring)
            return
        before = [vector.clone() for vector in replica.parameters]
        step_alone(self, replica, bring)
        for vector, old in zip(replica.parameters, before, strict=True):
            stretch_(vector, old, self.weight)

    def settle(self, replica: Replica) -> None:
        """Push, and mix in the letter that is due."""
        if self._box is None:
            return
        step, workers, rank = self.steps - 1, self.world.size, self.world.rank
        far = hop(step, workers)
        self._flights.append(Flight(step, self._box.expect((rank - far) % workers)))
        with on_host(replica.parameters) as mine:
            self._push(self._box, (rank + far) % workers, mine)
            while self._flights and self._flights[0].step <= step - self.options.overlap:
                flight = self._flights.popleft()
                self._arrive(flight)
                self.recorder.end("sync")
                self._mix(flight, mine)
        self.recorder.exchanges += 1
        self.recorder.end("comm")

    def _push(self, box: Mailbox, to: int, mine: list[Array]) -> None:
        what = f"the letter of step {self.steps}"
        box.wait_until_sent(what, but=self.options.overlap + 1)
        self.recorder.end("sync")
        arrives = box.send(to, [self.weight / 2], mine)
        self.weight /= 2
        if not box.lossless:
            keep_rest(mine, arrives)
        self.recorder.sent(box.format.bytes)
        self.recorder.end("comm")

    def _arrive(self, flight: Flight) -> None:
        """Wait for it; its vectors are good until the next."""
        if flight.incoming is not None:
            assert self._box is not None
            letter = self._box.wait_for(flight.incoming, f"step {flight.step + 1}")
            flight.weight, flight.vectors = letter.numbers[0], letter.vectors
            flight.incoming = None

    def _mix(self, flight: Flight, mine: list[Array]) -> None:
        self.weight += flight.weight
        mix(mine, flight.vectors, flight.weight / self.weight)

    def drain(self) -> None:
        """Receive all letters that are on their way; they are mixed in when they are due."""
        if self._box is None:
            return
        for flight in self._flights:
            if flight.incoming is not None:
                self._arrive(flight)
                flight.vectors = [vector.copy() for vector in flight.vectors]
        self._box.wait_until_sent("the taking in of letters")

    @contextmanager
    def consensus(self, replica: Replica) -> Iterator[None]:
        """Inside, the replica holds the mean of x over the workers, with letters not yet due."""
        self.drain()
        own, weight = [vector.clone() for vector in replica.parameters], self.weight
        try:
            with on_host(replica.parameters) as mine:
                for flight in self._flights:
                    self._mix(flight, mine)
            with self._mean_inside(replica, replica.parameters, self.weight):
                yield
        finally:
            self.weight = weight
            for vector, kept in zip(replica.parameters, own, strict=True):
                vector.copy_(kept)
            replica.publish_parameters()

    def finish(self, replica: Replica) -> None:
        """As `Rule.finish`; letters not yet due stay what they are: part of the consensus."""
        if self._box is not None:
            self._box.say_goodbye()
            self.drain()
            self._box.close("the taking in of letters at the end")
            self._box = None
        super().finish(replica)

    def state_dict(self) -> dict[str, Any]:
        """As `Periodic.state_dict`, with w_i and the letters not yet due."""
        self.drain()
        flights = [
            [flight.step, flight.weight, [torch.from_numpy(v) for v in flight.vectors]]
            for flight in self._flights
        ]
        return {**super().state_dict(), "weight": self.weight, "flights": flights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Periodic.load_state_dict`."""
        super().load_state_dict(state)
        self.weight = float(state["weight"])
        self._flights = deque(
            Flight(int(step), None, float(weight), [vector.numpy() for vector in vectors])
            for step, weight, vectors in state["flights"]
        )

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Periodic.merge_state_dicts`; all begin at the consensus."""
        super().merge_state_dicts(states)
        self.weight = 1.0
        self._flights.clear()
