"""Local SGD: every worker trains alone for a period, then all take the mean.

After every H-th step of all workers:

    x_i <- sum_j n_j x_j / sum_j n_j

    x_i  a worker's weights                               replica.parameters
    H    steps between rounds                             options.period
    n_i  its samples since the last round

Stich, arXiv 1805.09767. Optimizer states (momentum) stay each worker's own. With H = 1 this is
`bsp:scheme=weights`. We differ: workers with more samples weigh more.
"""

from __future__ import annotations

from arignote.config.rule_options import LocalSGDOptions
from arignote.frameworks.base import Replica
from arignote.rules.periodic import Periodic


class LocalSGD(Periodic):
    """The mean of all weights, every period."""

    options: LocalSGDOptions

    def is_due(self, replica: Replica) -> bool:
        """After every period-th step."""
        return self.steps % self.options.period == 0

    def round(self, replica: Replica, weight: float | None) -> None:
        """See `Periodic.round`."""
        for vector in replica.parameters:
            sent = self.exchange.mean_(
                vector, weight=weight, what=f"the round of step {self.steps}"
            )
            self.recorder.sent(sent)
