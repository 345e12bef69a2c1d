"""Synchronous EASGD: all workers and a centre draw each other nearer at the same time.

After every tau-th step of all workers:

    x_i <- x_i - alpha (x_i - c),    c <- c + beta sum_j (x_j - c)       (from the same old values)

    x_i    a worker's weights                                  replica.parameters
    c      the centre, which every worker holds                what is validated and saved
    tau    steps between rounds                                options.period
    alpha  how far a worker moves                              options.alpha
    beta   how far the centre moves for each worker            options.server_alpha

Zhang, Choromanska, LeCun, arXiv 1412.6651, equations 3 and 5. We exchange the mean of all x_j, by
any exchange that carries weights, so no server is needed: c + beta n (mean - c). Workers all weigh
alike in it. Needs beta <= 1/n to be stable: the default is 1/n.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from arignote.config.rule_options import EASGDSyncOptions
from arignote.frameworks.base import Replica
from arignote.rules.base import Bring
from arignote.rules.elastic import remarks_on_alpha, server_rate
from arignote.rules.periodic import Periodic


class EASGDSync(Periodic):
    """All workers visit together; each holds the centre, which no server needs to."""

    options: EASGDSyncOptions

    def start(self, replica: Replica) -> None:
        """See `Rule.start`."""
        super().start(replica)
        self.adopt(replica)
        allocate = self.exchange.route.allocate
        self._means = [allocate(v.numel(), v.dtype, v.device) for v in replica.parameters]
        self.remarks += remarks_on_alpha(self.options, self.world.size, together=True)

    def adopt(self, replica: Replica) -> None:
        """See `Rule.adopt`: they are the centre."""
        self._centre = [vector.clone() for vector in replica.parameters]

    def is_due(self, replica: Replica) -> bool:
        """After every period-th step."""
        return self.steps % self.options.period == 0

    def round(self, replica: Replica, weight: float | None) -> None:
        """c + beta sum_i (x_i - c) = c + n beta (mean - c); workers all weigh alike in it."""
        for mean, vector in zip(self._means, replica.parameters, strict=True):
            mean.copy_(vector)
        self.world.meet([], f"the round of step {self.steps}")
        rate = server_rate(self.options, self._bring, default=1 / self.world.size)
        for mean, centre, vector in zip(self._means, self._centre, replica.parameters, strict=True):
            self.recorder.sent(self.exchange.mean_(mean, what=f"the round of step {self.steps}"))
            vector.sub_(vector - centre, alpha=self.options.alpha)
            centre.add_(mean - centre, alpha=self.world.size * rate)

    def update(self, replica: Replica, bring: Bring) -> None:
        """See `Periodic.update`."""
        self._bring = bring
        super().update(replica, bring)

    @contextmanager
    def consensus(self, replica: Replica) -> Iterator[None]:
        """Inside, the replica holds the centre."""
        own = [vector.clone() for vector in replica.parameters]
        for vector, centre in zip(replica.parameters, self._centre, strict=True):
            vector.copy_(centre)
        replica.publish_parameters()
        self._note_distance(replica.parameters, own, "the measuring of the distance")
        try:
            with self._mean_inside(replica, ()):
                yield
        finally:
            for vector, kept in zip(replica.parameters, own, strict=True):
                vector.copy_(kept)
            replica.publish_parameters()

    def state_dict(self) -> dict[str, Any]:
        """As `Periodic.state_dict`, with the centre."""
        return {**super().state_dict(), "centre": self._centre}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Periodic.load_state_dict`."""
        super().load_state_dict(state)
        for centre, saved in zip(self._centre, state["centre"], strict=True):
            centre.copy_(saved)

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Periodic.merge_state_dicts`; the centre is the same on all."""
        super().merge_state_dicts(states)
        for centre, saved in zip(self._centre, states[0]["centre"], strict=True):
            centre.copy_(saved)
