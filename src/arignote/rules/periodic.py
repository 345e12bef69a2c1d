"""What the rules have in common whose workers step alone and all meet every period.

A round begins with a roll call, which also brings everybody's wish to stop. Between the rounds
of a long period nobody may wait for such a wish, and nobody may miss it:

1. worker 1 is told to stop at step 20, and stops,
2. worker 0 comes to the round of step 50 and waits there until the deadline.

So every SIGNAL_STEPS steps the workers open a meeting, and close it as many steps later: by
then all have come long since, and all learn of it at the same step.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from arignote.comm.base import Meeting
from arignote.frameworks.base import Replica
from arignote.rules.alone import step_alone
from arignote.rules.base import Bring, Rule, StepResult

SIGNAL_STEPS = 8


class Periodic(Rule):
    """A rule with rounds of all workers; a member says when, and what happens in one."""

    optimizer_is_local = True
    weights_are_local = True

    _samples = 0.0
    """Of this worker since the last round."""
    _open: Meeting | None = None

    @abstractmethod
    def is_due(self, replica: Replica) -> bool:
        """Whether a round follows step number `self.steps`, just made; alike on all workers."""

    @abstractmethod
    def round(self, replica: Replica, weight: float | None) -> None:
        """Exchange, and mix in; all workers are here.

        Args:
            weight: this worker's samples since the last round / their mean; None: all alike.
        """

    def update(self, replica: Replica, bring: Bring) -> None:
        """The step before it: by default this worker's alone."""
        step_alone(self, replica, bring)

    def settle(self, replica: Replica) -> None:
        """After the update, before a round: end what an earlier round began."""

    def samples_of_round(self) -> float:
        """What this worker has brought to the round that is due: its weight in it."""
        return self._samples

    def step(self, replica: Replica, bring: Bring) -> StepResult:
        """One update, and a round where one is due; see `Rule.step`."""
        self.update(replica, bring)
        self._samples += bring.samples
        self.settle(replica)
        result = StepResult(bring.samples, None, _known(bring), stop=False)
        if self.is_due(replica):
            # A worker that has left came to the open meeting as its last.
            heard = self._close_open()
            stop = bring.stop or (heard is not None and heard.stop)
            brings = Bring(self.samples_of_round(), bring.loss, stop)
            result = self._close_roll(self._open_roll(brings), brings, f"step {self.steps}")
            self.recorder.end("sync")
            self.round(replica, result.weight)
            self.recorder.exchanges += 1
            self._samples = 0.0
            self.recorder.end("comm")
        elif self.steps % SIGNAL_STEPS == 0:
            result = self._signal(bring) or result
        replica.publish_parameters()
        self.recorder.end("calc")
        return result

    def _signal(self, bring: Bring) -> StepResult | None:
        """What all brought to the last such meeting, if one is open; open the next."""
        heard = self._close_open()
        self._open = self._open_roll(Bring(bring.samples, bring.loss, bring.stop))
        self.recorder.end("sync")
        return heard

    def _close_open(self) -> StepResult | None:
        if self._open is None:
            return None
        meeting, self._open = self._open, None
        return self._close_roll(meeting, Bring(0), f"step {self.steps}")

    def finish(self, replica: Replica) -> None:
        """As `Rule.finish`, after the meeting that is still open."""
        self._close_open()
        super().finish(replica)

    def state_dict(self) -> dict[str, Any]:
        """As `Rule.state_dict`, with the weight of the round under way."""
        return {**super().state_dict(), "samples": self._samples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`."""
        super().load_state_dict(state)
        self._samples = float(state["samples"])


def _known(bring: Bring) -> float:
    return float("nan") if bring.loss is None else bring.loss
