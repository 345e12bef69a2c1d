"""Post-local SGD: all meet after every step until the learning rate drops, then every period.

After step t of all workers, if a round is due:

    x_i <- sum_j n_j x_j / sum_j n_j

    due  while eta > d max(eta):  every step             replica.learning_rate, options.drop
         from then on:            every H-th step        options.period
    x_i  a worker's weights                              replica.parameters
    n_i  its samples since the last round

Lin, Stich, Patel, Jaggi, arXiv 1808.07217: large steps find the valley together, small ones its
floor alone. We differ: workers with more samples weigh more, and the drop is found, not told.
Optimizer states (momentum) stay each worker's own. What has dropped stays dropped, also if the
rate rises again. The learning rate must be alike on all workers, as every schedule of ours is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from arignote.config.rule_options import PostLocalOptions
from arignote.errors import UserError
from arignote.frameworks.base import Replica
from arignote.rules.periodic import Periodic


class PostLocal(Periodic):
    """The mean of all weights: every step, and after the learning rate's drop every period."""

    options: PostLocalOptions

    _highest = 0.0
    """The highest learning rate so far."""
    _dropped = False

    def start(self, replica: Replica) -> None:
        """As `Rule.start`.

        Raises:
            UserError: the model keeps its learning rate to itself.
        """
        if math.isnan(replica.learning_rate):
            raise UserError(
                "post-local waits for the learning rate to drop, and this model shows none: use "
                f"--rule local-sgd:period={self.options.period}"
            )
        super().start(replica)

    def is_due(self, replica: Replica) -> bool:
        """After every step; once the learning rate has dropped, after every period-th."""
        rate = replica.learning_rate
        self._highest = max(self._highest, rate)
        self._dropped = self._dropped or rate <= self.options.drop * self._highest
        return not self._dropped or self.steps % self.options.period == 0

    def round(self, replica: Replica, weight: float | None) -> None:
        """See `Periodic.round`."""
        for vector in replica.parameters:
            sent = self.exchange.mean_(
                vector, weight=weight, what=f"the round of step {self.steps}"
            )
            self.recorder.sent(sent)

    def state_dict(self) -> dict[str, Any]:
        """As `Rule.state_dict`, with what the learning rate has been."""
        return {**super().state_dict(), "highest": self._highest, "dropped": self._dropped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`."""
        super().load_state_dict(state)
        self._highest = float(state["highest"])
        self._dropped = bool(state["dropped"])

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Rule.merge_state_dicts`.

        The highest rate is forgotten: it is scaled by the number of workers, and fewer of them
        must not look like a drop.
        """
        super().merge_state_dicts(states)
        self._dropped = bool(states[0]["dropped"])
