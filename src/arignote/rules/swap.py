"""Swap: every worker trains alone; every period, random pairs trade their weights.

After every H-th step of all workers, of the p vectors x_0 ... x_{p-1}:

    x_a, x_b  <-  x_b, x_a          for all pairs (a, b) of one random perfect matching

    x_i  a worker's weights, and their batch-norm statistics      replica.parameters, buffers
    H    steps between rounds                                     options.period

Nobody averages: all vectors are there again after a round, in other hands. It is made for GANs,
whose model shows its critic alone as `params`: critics then travel between generators, and no
generator can settle on what a single critic overlooks.

Generative Adversarial Parallelization: Im, Ma, Kim, Taylor, arXiv 1612.04021. Theano-MPI, of the
same group, calls it `swap`. As there, optimizer states stay with the worker. We differ:

- every worker draws the matching by itself, from the seed and the number of the round;
- any number of workers: of an odd one, one drawn by lot sits out a round; one alone always does;
- all begin with worker 0's weights, as in every rule of ours: they differ from the first step on;
- batch-norm statistics travel with the weights that they were measured on.

What is validated is each worker's own, and the figures are means over the workers. A checkpoint's
common weights are worker 0's; each worker's own are beside them, and are what a run of as many
workers goes on with. One of more or fewer begins with worker 0's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from arignote.config.exchange_options import WEIGHT_CODECS
from arignote.config.rule_options import SwapOptions
from arignote.errors import UserError
from arignote.exchange.exchange import Exchange
from arignote.exchange.routes.pair import Pair
from arignote.frameworks.base import Replica
from arignote.rules.periodic import Periodic


class Swap(Periodic):
    """Random pairs trade their weights, every period.

    Its exchange is `pair` from the start on, with the codec of the one that it was given.
    """

    options: SwapOptions
    _given: Exchange

    def start(self, replica: Replica) -> None:
        """As `Rule.start`, with an exchange that trades.

        Raises:
            UserError: the codec of the one that was given only suits gradients.
        """
        codec = self.exchange.codec
        if codec.name not in WEIGHT_CODECS:
            raise UserError(
                f"swap trades weights, and {codec.name} only suits gradients, whose errors are "
                f"made up for later: use {' or '.join(f'pair:{name}' for name in WEIGHT_CODECS)}"
            )
        self._given, self.exchange = self.exchange, Exchange(Pair(self.world, self.seed), codec)
        super().start(replica)

    def exchanged(self, replica: Replica) -> tuple[torch.Tensor, ...]:
        """The weights, never gradients."""
        return replica.parameters

    def is_due(self, replica: Replica) -> bool:
        """After every period-th step."""
        return self.steps % self.options.period == 0

    def round(self, replica: Replica, weight: float | None) -> None:
        """See `Periodic.round`; nobody's weight counts for more."""
        for vector in (*replica.parameters, *replica.buffers):
            # All count their rounds alike, so all go to the same partner.
            self.recorder.sent(self.exchange.mean_(vector, what=f"the round of step {self.steps}"))

    @contextmanager
    def consensus(self, replica: Replica) -> Iterator[None]:
        """Each worker's own: the mean of critics of different generators is no critic."""
        yield

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Rule.merge_state_dicts`; the matchings are drawn on from where they were."""
        super().merge_state_dicts(states)
        # No codec that carries weights keeps anything, so this is the number of rounds alone.
        if states[0]["exchange_name"] == self.exchange.name:
            self.exchange.load_state_dict(states[0]["exchange"])

    def finish(self, replica: Replica) -> None:
        """As `Rule.finish`; also lets go of the exchange that was given."""
        super().finish(replica)
        self._given.close()
