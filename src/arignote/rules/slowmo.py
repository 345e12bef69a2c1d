"""SlowMo: local SGD whose rounds have a momentum of their own.

After every H-th step of all workers:

    x' <- sum_j n_j x_j / sum_j n_j
    u  <- beta u + (x_old - x') / gamma
    x_i = x_old <- x_old - alpha gamma u

    x_i          a worker's weights                        replica.parameters
    H            steps between rounds                      options.period
    n_i          its samples since the last round
    alpha, beta  slow learning rate, slow momentum         options.alpha, options.beta
    gamma        learning rate of the step before          replica.learning_rate; 1 if 0 or unknown

Wang, Tantia, Ballas, Rabbat, arXiv 1910.00643, over local SGD with an exact mean. Optimizer
states stay each worker's own from round to round (the paper's "maintain"). We differ: workers
with more samples weigh more, and the last line is computed as

    x <- x' + (1 - alpha) (x_old - x') - alpha gamma beta u_before

which is the same, and with alpha = 1 and beta = 0 is `local-sgd` bit for bit. A gamma that never
changes cancels out: what is left is BMUF (Chen and Huo 2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from arignote.config.rule_options import SlowMoOptions
from arignote.frameworks.base import Replica
from arignote.rules.periodic import Periodic


def slow_step_(
    weights: torch.Tensor,
    old: torch.Tensor,
    momentum: torch.Tensor,
    *,
    alpha: float,
    beta: float,
    rate: float,
) -> None:
    """The formulas above; `weights` holds x' and becomes x, as does `old`; `momentum` is u."""
    change = old.sub_(weights)
    # Terms that are nothing are left out: even adding 0 would turn -0 into 0.
    if alpha != 1:
        weights.add_(change, alpha=1 - alpha)
    if beta:
        weights.add_(momentum, alpha=-alpha * rate * beta)
    momentum.mul_(beta).add_(change, alpha=1 / rate)
    old.copy_(weights)


class SlowMo(Periodic):
    """The mean of all weights and a step of slow momentum, every period."""

    options: SlowMoOptions

    def start(self, replica: Replica) -> None:
        """As `Rule.start`; the weights that all begin with are the first x_old."""
        super().start(replica)
        self.adopt(replica)

    def adopt(self, replica: Replica) -> None:
        """See `Rule.adopt`."""
        self._old = [vector.clone() for vector in replica.parameters]
        self._momentum = [torch.zeros_like(vector) for vector in replica.parameters]

    def is_due(self, replica: Replica) -> bool:
        """After every period-th step."""
        return self.steps % self.options.period == 0

    def round(self, replica: Replica, weight: float | None) -> None:
        """See `Periodic.round`."""
        rate = replica.learning_rate
        if math.isnan(rate) or rate == 0:
            rate = 1.0
        for vector, old, momentum in zip(
            replica.parameters, self._old, self._momentum, strict=True
        ):
            sent = self.exchange.mean_(
                vector, weight=weight, what=f"the round of step {self.steps}"
            )
            self.recorder.sent(sent)
            alpha, beta = self.options.alpha, self.options.beta
            slow_step_(vector, old, momentum, alpha=alpha, beta=beta, rate=rate)

    def state_dict(self) -> dict[str, Any]:
        """As `Rule.state_dict`, with the last round's weights and the slow momentum."""
        return {**super().state_dict(), "old": self._old, "momentum": self._momentum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`; after `start`."""
        super().load_state_dict(state)
        self._load(state)

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Rule.merge_state_dicts`; what rounds have left is the same on all workers."""
        super().merge_state_dicts(states)
        self._load(states[0])

    def _load(self, state: dict[str, Any]) -> None:
        for vector, saved in zip(
            (*self._old, *self._momentum), (*state["old"], *state["momentum"]), strict=True
        ):
            vector.copy_(saved)
