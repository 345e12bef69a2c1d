"""GoSGD: now and then a worker pushes its weights, and half of their weight, to a random other.

After each step of a worker, for every letter (x_r, w_r) that is here, and then with probability p:

    x_i <- (w_i x_i + w_r x_r) / (w_i + w_r),    w_i <- w_i + w_r
    w_i <- w_i / 2,    send (x_i, w_i) to some j, each j != i as likely

    x_i  a worker's weights                                       replica.parameters
    w_i  how much of the consensus it holds; 1/n at the start     GOSGD.weight
    p    probability of a push after a step                       options.p

    consensus: sum_i w_i x_i, with sum_i w_i = 1 at all times, letters on their way counted

Blot, Picard, Cord, Thome, arXiv 1611.09726; Blot, Picard, Thome, Cord, arXiv 1804.01852. We differ:
a push that would have to wait (two letters of this worker are still on their way) is not begun, and
counted; so is one of a worker with w_i below 1e-30, which halving would bring to zero in the end.
Where a codec rounds what is sent, the sender keeps the difference, so that sum_i w_i x_i stays what
it was. A worker that has ended its loop says so, and is not pushed to any more. Theano-MPI's p
is 0.01, so rare that small runs hardly mix; ours is 0.1. Its workers all drew the same numbers, and
two that pushed to each other could hang: here each has a generator of its own, and nobody waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from arignote.config.rule_options import GOSGDOptions
from arignote.exchange.letter_format import Array
from arignote.exchange.letters import Letter, Mailbox
from arignote.frameworks.base import Replica
from arignote.rules.letters import Gossip, keep_rest, keep_rest_, mix, mix_, on_host

LEAST_WEIGHT = 1e-30


def mixed_in(weight: float, theirs: float) -> tuple[float, float]:
    """(the part of a letter of weight `theirs` in the mix, the weight after it)."""
    return theirs / (weight + theirs), weight + theirs


class GOSGD(Gossip):
    """Gossip by pushes."""

    name = "gosgd"
    options: GOSGDOptions
    loops = (mix_, keep_rest_)

    weight = 1.0
    """w_i."""

    def start(self, replica: Replica) -> None:
        """See `Rule.start`."""
        super().start(replica)
        self.weight = 1 / self.world.size

    def read(self, box: Mailbox, letter: Letter, mine: list[Array]) -> None:
        """Mix it in; staleness: how many steps apart sender (then) and receiver (now) are."""
        theirs, steps, *_ = letter.numbers
        part, self.weight = mixed_in(self.weight, theirs)
        mix(mine, letter.vectors, part)
        self.recorder.note("staleness", abs(self.steps - steps))

    def write(self, box: Mailbox) -> None:
        """Push with probability p."""
        if self._random.random() >= self.options.p:
            return
        to = self.pick(box)
        if to is None:
            return
        skipped = box.full() or self.weight < LEAST_WEIGHT
        self.recorder.note("skipped_pushes", float(skipped))
        if not skipped:
            self.push(box, to)

    def push(self, box: Mailbox, to: int) -> None:
        """Send half of what this worker holds."""
        with on_host(self._replica.parameters) as mine:
            half, arrives = self.weight / 2, list(mine)
            self.send(box, to, [half, self.steps], arrives)
            self.weight = half
            if not box.lossless:
                keep_rest(mine, arrives)
        self.recorder.exchanges += 1

    def share(self) -> float:
        """See `Gossip.share`; collective."""
        (total,) = self.world.meet([self.weight], "the sum of the weights of all")
        return float(self.weight * self.world.size / total)

    def state_dict(self) -> dict[str, Any]:
        """As `Gossip.state_dict`, with w_i."""
        state = super().state_dict()
        return {**state, "weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Gossip.load_state_dict`."""
        super().load_state_dict(state)
        self.weight = float(state["weight"])

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Gossip.merge_state_dicts`; each holds as much of the consensus as the others."""
        super().merge_state_dicts(states)
        self.weight = 1 / self.world.size
