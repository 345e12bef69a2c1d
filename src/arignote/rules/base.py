"""The contract of a rule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from arignote.comm.base import World
from arignote.config.rule_options import RuleOptions
from arignote.errors import NotANumberError, UserError
from arignote.exchange.exchange import Exchange, share_of
from arignote.frameworks.base import Replica
from arignote.recorder.phases import Recorder


@dataclass(frozen=True)
class Bring:
    """What one worker brings to a step."""

    samples: float
    """Weight of its gradient: the samples of its batch (0 for an empty one)."""
    loss: float | None = None
    """Its mean loss, checked for NaN; None: unknown."""
    stop: bool = False
    """It was told to stop (a signal)."""


@dataclass(frozen=True)
class StepResult:
    """What a step tells the loop; the same on every worker of a synchronous rule."""

    samples: float
    """Samples of all workers in this step."""
    weight: float | None
    """This worker's samples / the mean over the workers; None where all brought the same."""
    loss: float
    """Mean loss over them; NaN where no worker knows its own."""
    stop: bool
    """Some worker was told to stop: all do, after this step."""


class Rule(ABC):
    """When workers exchange, and how what they get is mixed in.

    Args:
        options: the rule's own (`config.rule_options`).
        world, exchange: with whom, and how.
        recorder: where seconds and bytes are booked.
        stop_on_nan: a loss that is no number is an error that names the worker.
    """

    optimizer_is_local: bool
    """Whether optimizer states differ between workers (then each is saved)."""
    weights_are_local: bool = False
    """Whether weights differ between workers (then each worker's own are saved too)."""

    def __init__(
        self,
        options: RuleOptions,
        world: World,
        exchange: Exchange,
        recorder: Recorder,
        *,
        stop_on_nan: bool = True,
    ) -> None:
        self.options = options
        self.world = world
        self.exchange = exchange
        self.recorder = recorder
        self.stop_on_nan = stop_on_nan
        self.steps = 0

    def start(self, replica: Replica) -> None:
        """Give every worker rank 0's weights, buffers and constants."""
        vectors = (
            *replica.parameters,
            *replica.buffers,
            *replica.counters,
            *replica.constants,
        )
        for vector in vectors:
            if vector.device.type == "cpu" and vector.is_contiguous():
                self.world.broadcast_(vector, "the broadcast of the initial weights")
            else:
                host = vector.cpu().contiguous()
                self.world.broadcast_(host, "the broadcast of the initial weights")
                vector.copy_(host)
        replica.publish_parameters()
        shards = self.would_shard(replica)
        self.exchange.prepare(self.exchanged(replica), replica.shapes, shards=shards)

    def would_shard(self, replica: Replica) -> bool:
        """Whether this rule shares out the update where the route can."""
        return False

    def exchanged(self, replica: Replica) -> tuple[torch.Tensor, ...]:
        """The vectors whose exchange is this rule's work, laid out as `replica.shapes`."""
        return replica.gradients or replica.parameters

    @abstractmethod
    def step(self, replica: Replica, bring: Bring) -> StepResult:
        """One update, and a round where one is due; the caller has run backward.

        Weights change only when the round is complete on this worker.

        Raises:
            LostWorkerError: a worker did not come.
            NotANumberError: a worker brought a loss that is no number.
            UserError: a worker ended its loop while others go on.
        """

    @contextmanager
    def consensus(self, replica: Replica) -> Iterator[None]:
        """Inside, the replica holds the weights to validate and save; after, its own again."""
        yield

    def finish(self, replica: Replica) -> None:
        """The loop is over: drain what is in flight, and tell those who are still in theirs."""
        self._call_roll(Bring(samples=0), leaving=True)
        self.exchange.close()

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed rule needs, plain values and tensors."""
        return {
            "steps": self.steps,
            "exchange_name": self.exchange.name,
            "exchange": self.exchange.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`, of the same worker of as many."""
        self.steps = int(state["steps"])
        # Of another route or codec it is laid out in another way.
        if state["exchange_name"] == self.exchange.name:
            self.exchange.load_state_dict(state["exchange"])

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on from the states of all workers of a run that had more or fewer of them."""
        self.steps = int(states[0]["steps"])
        codec = states[0]["exchange_name"].partition(":")[2]
        if codec == self.exchange.name.partition(":")[2]:
            self.exchange.merge_state_dicts([state["exchange"] for state in states])

    def _call_roll(self, bring: Bring, *, leaving: bool = False) -> StepResult:
        """Meet, and add up what all workers bring.

        One small sum carries all signals, so that they reach every worker at the same step.
        """
        what = f"step {self.steps + 1}"
        bad = bring.loss is not None and not math.isfinite(bring.loss)
        known = 0.0 if bring.loss is None else bring.samples
        loss = bring.loss * bring.samples if bring.loss is not None and bring.samples else 0.0
        samples, squares, known, loss, stop, nan, left = self.world.meet(
            [bring.samples, bring.samples**2, known, loss, bring.stop, bad, leaving], what
        ).tolist()
        if 0 < left < self.world.size:
            raise UserError(
                f"{left:.0f} of {self.world.size} workers ended their loop while others are at "
                f"{what}: give every worker the same number of batches (replica.batches(...) does)"
            )
        if nan and self.stop_on_nan:
            flags = self.world.gather(bad, what)
            names = ", ".join(f"worker {rank}" for rank, flag in enumerate(flags) if flag)
            raise NotANumberError(
                f"the loss of {names} is not a number at {what}: nothing of this step was kept; "
                "lower the learning rate, clip the gradient (train.clip_norm), or go on with "
                "--set train.on_nan=continue"
            )
        mean_loss = loss / known if known else math.nan
        weight = share_of(bring.samples, samples, squares, self.world.size)
        return StepResult(samples=samples, weight=weight, loss=mean_loss, stop=stop > 0)
