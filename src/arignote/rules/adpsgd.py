"""AD-PSGD: a worker asks a random other for the mean of both, and goes on while the answer comes.

After every H-th step of worker i, unless its last request is still open, with j at its next step:

    i sends s = x_i as it is then
    j:  d = (s - x_j) / 2,    x_j <- x_j + d,    sends d
    i:  x_i <- x_i - d, when it comes

    x_i  a worker's weights                            replica.parameters
    H    own steps between requests                    options.period

Lian, Zhang, Zhang, Liu, arXiv 1710.06952. There both take the mean at one moment, atomically, and
a bipartite graph keeps those who ask each other from hanging. Here nobody waits: i makes steps, and
answers others, between s and d. Both still move by the same d, so the sum over all workers stays
what it was, also where a codec rounds (d is then what arrives of it). While nothing happens to i in
between, both end at the mean. No graph: everybody may ask everybody.

The bad story of two who ask each other:
1. i and j send s_i and s_j,
2. each answers the other: now both are at the mean,
3. the answers come, and each moves the same way once more: they have swapped their weights,
and are as far apart as before, for ever. So of two requests that cross only the one of the lower
rank counts. Both know that they crossed, since letters between two come in the order they were
sent: whoever sees a request of the one that it has itself asked, and no answer before it, knows
that the other will see the same.

The consensus is the plain mean.
"""

from __future__ import annotations

from typing import Any

from arignote.config.rule_options import ADPSGDOptions
from arignote.exchange.jit import jit
from arignote.exchange.letter_format import Array
from arignote.exchange.letters import Letter, Mailbox
from arignote.rules.letters import Gossip, on_host

_REQUEST, _ANSWER = 0.0, 1.0


@jit
def half_difference_(theirs: Array, mine: Array, half: float) -> None:
    """theirs <- half * (theirs - mine); all of one dtype, shapes (n,), (n,), ()."""
    for i in range(theirs.size):
        theirs[i] = half * (theirs[i] - mine[i])


@jit
def add_(mine: Array, difference: Array, sign: float) -> None:
    """mine <- mine + sign * difference; all of one dtype, shapes (n,), (n,), ()."""
    for i in range(mine.size):
        mine[i] += sign * difference[i]


class ADPSGD(Gossip):
    """Pairwise means on request."""

    name = "adpsgd"
    options: ADPSGDOptions
    answered = True
    loops = (half_difference_, add_)

    asked: int | None = None
    """Whose answer is still to come."""

    def write(self, box: Mailbox) -> None:
        """Ask, where it is time and the last answer has come."""
        if self.steps % self.options.period:
            return
        to = self.pick(box)
        if to is None:
            return
        skipped = self.asked is not None or box.full()
        self.recorder.note("skipped_pushes", float(skipped))
        if not skipped:
            self.asked = to
            with on_host(self._replica.parameters) as mine:
                self.send(box, to, [_REQUEST, self.steps], list(mine))

    def read(self, box: Mailbox, letter: Letter, mine: list[Array]) -> None:
        """Answer a request, or apply an answer."""
        kind, steps, *_ = letter.numbers
        if kind == _ANSWER:
            self.asked = None
            self._move(mine, letter.vectors, -1)
            self.recorder.note("staleness", self.steps - steps)
            self.recorder.exchanges += 1
            return
        if self.asked == letter.source:
            if self.world.rank < letter.source:
                return
            self.asked = None
        difference = letter.vectors
        for theirs, own in zip(difference, mine, strict=True):
            half_difference_(theirs, own, own.dtype.type(0.5))
        self.send(box, letter.source, [_ANSWER, steps], difference)
        self._move(mine, difference, 1)

    @staticmethod
    def _move(mine: list[Array], difference: list[Array], sign: int) -> None:
        for own, change in zip(mine, difference, strict=True):
            add_(own, change, own.dtype.type(sign))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Gossip.load_state_dict`; nothing was open."""
        super().load_state_dict(state)
        self.asked = None
