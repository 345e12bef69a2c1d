"""DiLoCo: long periods alone; the mean change is the gradient of an outer optimizer.

After every H-th step of all workers:

    delta <- sum_j n_j (theta_old - x_j) / sum_j n_j
    v     <- mu v + delta
    x_i = theta_old <- theta_old - eta (delta + mu v)

    x_i      a worker's weights                            replica.parameters
    H        steps between rounds                          options.period
    n_i      its samples since the last round
    eta, mu  outer learning rate, Nesterov momentum        options.outer_learning_rate, _momentum

Douillard et al., arXiv 2311.08105 (there: AdamW inside, H = 500, eta = 0.7, mu = 0.9). Optimizer
states stay each worker's own. With eta = 1 and mu = 0 it is `local-sgd`, but for rounding. We
differ: workers with more samples weigh more, and what travels are the changes, so that any codec
carries them: what it loses of one round it adds to the next, as it does with gradients. All
workers decode the same mean, so all end a round with the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from arignote.config.rule_options import DiLoCoOptions
from arignote.frameworks.base import Replica
from arignote.rules.outer import Outer
from arignote.rules.periodic import Periodic


class DiLoCo(Periodic):
    """The mean of all changes feeds an outer optimizer, every period."""

    options: DiLoCoOptions

    def start(self, replica: Replica) -> None:
        """As `Rule.start`; the weights that all begin with are the first theta_old."""
        self._outer = Outer(
            replica,
            self.exchange,
            rate=self.options.outer_learning_rate,
            momentum=self.options.outer_momentum,
        )
        super().start(replica)
        self.adopt(replica)

    def adopt(self, replica: Replica) -> None:
        """See `Rule.adopt`."""
        self._outer.begin(replica)

    def exchanged(self, replica: Replica) -> tuple[torch.Tensor, ...]:
        """The changes."""
        return self._outer.deltas

    def is_due(self, replica: Replica) -> bool:
        """After every period-th step."""
        return self.steps % self.options.period == 0

    def round(self, replica: Replica, weight: float | None) -> None:
        """See `Periodic.round`."""
        everything = [slice(0, vector.numel()) for vector in replica.parameters]
        what = f"the round of step {self.steps}"
        self._outer.take_change(replica, everything)
        self.recorder.sent(self._outer.average(everything, weight, what, self.exchange))
        self._outer.merge(replica, everything)

    def state_dict(self) -> dict[str, Any]:
        """As `Rule.state_dict`, with the outer optimizer's."""
        return {**super().state_dict(), **self._outer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`; after `start`."""
        super().load_state_dict(state)
        self._outer.load_state_dict(state)

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Rule.merge_state_dicts`; the outer optimizer's is the same on all workers."""
        super().merge_state_dicts(states)
        self._outer.load_state_dict(states[0])
