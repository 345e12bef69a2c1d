"""BSP: after every step all workers exchange and go on with the same weights.

Exchanges after each backward (scheme gradient) or each update (scheme weights):

    gradient:  g = sum_i n_i g_i / sum_i n_i,   x <- update(x, g)
    weights:   x_i <- update(x_i, g_i),         x <- sum_i n_i x_i / sum_i n_i

    g_i  a worker's gradient, the mean over its batch    replica.gradients
    n_i  the samples of its batch                        bring.samples
    x_i  its weights                                     replica.parameters

Theano-MPI's `cdd` (the paper's SUBGD) and `avg` (AWAGD), arXiv 1605.08325. We differ:
`cdd` there sums velocities and divides in the update that opens the *next* iteration; here
the gradient is averaged and the update follows at once, so the last step of an epoch counts
before validation. No parameter is left out by its name. Momentum stays local in `weights`.
From equal starts both schemes give the same trajectory (without clipping, with optimizers
that are linear in the gradient, such as SGD with momentum, and equal n_i).

Batch-norm statistics stay each worker's own while training; their mean over the workers is
what is validated and saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from arignote.config.rule_options import BSPOptions
from arignote.errors import UserError
from arignote.frameworks.base import Replica
from arignote.rules.base import Bring, Rule, StepResult


class BSP(Rule):
    """Bulk-synchronous parallel training."""

    options: BSPOptions

    @property
    def optimizer_is_local(self) -> bool:  # type: ignore[override]
        """In `weights` each worker feeds its optimizer its own gradient."""
        return self.options.scheme == "weights"

    def start(self, replica: Replica) -> None:
        """As `Rule.start`.

        Raises:
            UserError: scheme gradient with a model that shows no gradients.
        """
        if self.options.scheme == "gradient" and not replica.gradients:
            raise UserError(
                "this model shows no gradients, so bsp cannot average them: use "
                "--rule bsp:scheme=weights"
            )
        super().start(replica)

    def step(self, replica: Replica, bring: Bring) -> StepResult:
        """One update and one round; see `Rule.step`."""
        if self.options.scheme == "gradient":
            replica.collect_gradients()
            result = self._meet(bring)
            self._average(replica.gradients, bring, result)
            replica.update()
        else:
            # Atomic here too: the roll is called before the update, so a lost worker or a
            # NaN is known while this worker's weights are still the old ones.
            result = self._meet(bring)
            replica.update()
            replica.collect_parameters()
            self.recorder.end("calc")
            self._average(replica.parameters, bring, result)
            replica.publish_parameters()
        self.recorder.end("calc")
        self.steps += 1
        return result

    def _meet(self, bring: Bring) -> StepResult:
        self.recorder.end("calc")
        result = self._call_roll(bring)
        self.recorder.end("sync")
        return result

    def _average(self, vectors: tuple[torch.Tensor, ...], bring: Bring, result: StepResult) -> None:
        share = bring.samples / result.samples if result.samples else 1 / self.world.size
        for vector in vectors:
            what = f"the exchange of step {self.steps + 1}"
            self.recorder.sent(self.exchange.mean_(vector, share=share, what=what))
        self.recorder.end("comm")

    @contextmanager
    def consensus(self, replica: Replica) -> Iterator[None]:
        """Inside, the buffers are the mean over the workers; after, each worker's own again.

        They are put back because a run that saves more often must not train differently.
        """
        if self.world.size == 1 or not replica.buffers:
            yield
            return
        own = [vector.clone() for vector in replica.buffers]
        self.world.meet([], "the averaging of the batch-norm statistics")
        for vector in replica.buffers:
            self.exchange.mean_(
                vector,
                share=1 / self.world.size,
                what="the averaging of the batch-norm statistics",
            )
        try:
            yield
        finally:
            for vector, kept in zip(replica.buffers, own, strict=True):
                vector.copy_(kept)
