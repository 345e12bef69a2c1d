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

from typing import Any

import torch

from arignote.config.rule_options import BSPOptions
from arignote.errors import UserError
from arignote.exchange.overlap import Overlap
from arignote.frameworks.base import Replica
from arignote.rules.base import Bring, Rule, StepResult


class BSP(Rule):
    """Bulk-synchronous parallel training."""

    options: BSPOptions

    @property
    def optimizer_is_local(self) -> bool:  # type: ignore[override]
        """In `weights` each worker feeds its optimizer its own gradient."""
        return self.options.scheme == "weights"

    @property
    def weights_are_local(self) -> bool:  # type: ignore[override]
        """Where the route trades weights instead of averaging them (Theano-MPI's swap)."""
        return not self.exchange.route.averages

    _sharded = False
    _overlap: Overlap | None = None

    def start(self, replica: Replica) -> None:
        """As `Rule.start`, and decide how gradients are exchanged.

        Raises:
            UserError: scheme gradient with a model that shows no gradients, or an option that
                the exchange, the model or this MPI cannot serve.
        """
        options, world = self.options, self.world
        if options.scheme == "gradient" and not replica.gradients:
            raise UserError(
                "this model shows no gradients, so bsp cannot average them: use "
                "--rule bsp:scheme=weights"
            )
        super().start(replica)
        if options.scheme == "weights" or world.size == 1:
            replica.leave_gradients()
            return
        if options.overlap != "on" and _wanted(
            "sharded", options.sharded, self._one_host, self._reason_not_to_shard(replica)
        ):
            self._shard(replica)
        elif _wanted("overlap", options.overlap, not self._one_host, self._reason_not_to_overlap()):
            self._overlap = Overlap(self.exchange, replica.gradients, replica.shapes)
            self._overlap.what = self._what()
            replica.listen(self._overlap)

    @property
    def _one_host(self) -> bool:
        return len({peer.host for peer in self.world.peers}) == 1

    def would_shard(self, replica: Replica) -> bool:
        """See `Rule.would_shard`."""
        options = self.options
        if options.scheme == "weights" or options.overlap == "on" or options.sharded == "off":
            return False
        return (options.sharded == "on" or self._one_host) and not replica.reason_not_to_shard()

    def _reason_not_to_shard(self, replica: Replica) -> str:
        exchange = self.exchange.reason_not_to_shard([*replica.gradients, *replica.parameters])
        return exchange or replica.reason_not_to_shard()

    def _reason_not_to_overlap(self) -> str:
        return "" if self.world.many_threads else f"{self.world.library} serves one thread only"

    def _shard(self, replica: Replica) -> None:
        self._sharded = True
        what = "the gathering of the optimizer's state"
        replica.shard(
            [self.exchange.route.own_slice(vector.numel()) for vector in replica.parameters],
            gather=lambda vector: self.exchange.route.all_gather_(vector, what),
            combine=lambda item: self.world.gather(item, what),
            sum_=lambda value: float(self.world.meet([value], f"step {self.steps + 1}")[0]),
        )

    def step(self, replica: Replica, bring: Bring) -> StepResult:
        """One update and one round; see `Rule.step`."""
        if self.options.scheme == "gradient":
            replica.collect_gradients()
            result = self._meet(bring)
            if self._sharded:
                self._average_and_update_shards(replica, result)
            else:
                self._average_gradients(replica, bring, result)
                replica.update()
        else:
            # Atomic here too: the roll is called before the update, so a lost worker or a
            # NaN is known while this worker's weights are still the old ones.
            result = self._meet(bring)
            replica.update()
            replica.collect_parameters()
            self.recorder.end("calc")
            if self.exchange.route.needs_meeting:
                self.world.meet([], self._what())
                self.recorder.end("sync")
            self._average(replica.parameters, result)
            replica.publish_parameters()
        self.recorder.end("calc")
        self.steps += 1
        if self._overlap is not None:
            self._overlap.what = self._what()
        return result

    def _what(self) -> str:
        return f"the exchange of step {self.steps + 1}"

    def _meet(self, bring: Bring) -> StepResult:
        self.recorder.end("calc")
        result = self._call_roll(bring)
        self.recorder.end("sync")
        return result

    def _average_gradients(self, replica: Replica, bring: Bring, result: StepResult) -> None:
        if self._overlap is None:
            self._average(replica.gradients, result)
        else:
            self.recorder.sent(self._overlap.finish(bring.samples))
            self.recorder.end("comm")

    def _average(self, vectors: tuple[torch.Tensor, ...], result: StepResult) -> None:
        for vector in vectors:
            sent = self.exchange.mean_(vector, weight=result.weight, what=self._what())
            self.recorder.sent(sent)
        self.recorder.end("comm")

    def _average_and_update_shards(self, replica: Replica, result: StepResult) -> None:
        """Every worker averages its slice, updates it, and gives the new weights to all."""
        for vector in replica.gradients:
            sent = self.exchange.reduce_scatter_(vector, weight=result.weight, what=self._what())
            self.recorder.sent(sent)
        self.recorder.end("comm")
        replica.update()
        self.recorder.end("calc")
        for vector in replica.parameters:
            self.recorder.sent(self.exchange.route.all_gather_(vector, self._what()))
        self.recorder.end("comm")

    def finish(self, replica: Replica) -> None:
        """As `Rule.finish`, and end the thread that overlaps."""
        if self._overlap is not None:
            self._overlap.close()
        super().finish(replica)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`."""
        super().load_state_dict(state)
        if self._overlap is not None:
            self._overlap.what = self._what()


def _wanted(option: str, value: str, by_itself: bool, reason_not: str) -> bool:
    """Whether an option of auto, on or off is to be on.

    Raises:
        UserError: it is on, and cannot be.
    """
    if value == "on" and reason_not:
        raise UserError(f"bsp:{option}=on cannot be: {reason_not}; use {option}=auto")
    return value == "on" or (value == "auto" and by_itself and not reason_not)
