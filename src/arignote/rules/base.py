"""The contract of a rule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from arignote.comm.base import Meeting, World
from arignote.comm.crew import Crew
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
    epochs_done: float = math.nan
    """How far the run was when the batch was taken, all workers together; NaN: unknown."""


@dataclass(frozen=True)
class StepResult:
    """What a step tells the loop; the same on every worker where all exchanged in this step."""

    samples: float
    """Samples of the workers that exchanged in this step; else this worker's."""
    weight: float | None
    """This worker's samples / the mean over the workers; None where all brought the same."""
    loss: float
    """Mean loss over them; NaN where no worker knows its own."""
    stop: bool
    """Some worker was told to stop: all do, after this step (never, of asynchronous rules)."""


class Rule(ABC):
    """When workers exchange, and how what they get is mixed in.

    Args:
        options: the rule's own (`config.rule_options`).
        world, exchange: with whom, and how.
        recorder: where seconds and bytes are booked.
        stop_on_nan: a loss that is no number is an error that names the worker.
        crew: the workers with their servers; None: there are none.
        seed: what a rule draws comes from it; the same on all workers.
    """

    optimizer_is_local: bool
    """Whether optimizer states differ between workers (then each is saved)."""
    weights_are_local: bool = False
    """Whether weights differ between workers (then each worker's own are saved too)."""
    one_validates: bool = False
    """Whether one worker validates while the others go on (it holds all of the consensus)."""
    averages: bool = True
    """Whether its rounds are means by the exchange; else the exchange lends its codec to what the
    rule sends, and averages only what is validated and saved."""

    def __init__(
        self,
        options: RuleOptions,
        world: World,
        exchange: Exchange,
        recorder: Recorder,
        *,
        stop_on_nan: bool = True,
        crew: Crew | None = None,
        seed: int = 0,
    ) -> None:
        self.options = options
        self.world = world
        self.exchange = exchange
        self.recorder = recorder
        self.stop_on_nan = stop_on_nan
        self.crew = crew or Crew(world, world, 0)
        self.seed = seed
        self.remarks: list[str] = []
        """What `start` found that a user should know, one line each."""
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
        vectors = self.exchanged(replica)
        self.exchange.prepare(vectors, replica.shapes, shards=shards, rounds=self.averages)

    @property
    def way(self) -> str:
        """How what it sends travels, for people."""
        return self.exchange.name

    def adopt(self, replica: Replica) -> None:
        """Begin from the weights that the replica holds now, the same on all workers; collective.

        After `start`, and where weights were loaded that another rule, or another number of
        workers, has left.
        """
        return

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
        """Inside, the replica holds the weights to validate and save; after, its own again.

        To enter is collective. Here, weights (where they are each worker's own) and buffers are
        the means over the workers. They are put back because a run that saves more often must
        not train differently.
        """
        weights = replica.parameters if self.weights_are_local else ()
        with self._mean_inside(replica, weights):
            yield

    @contextmanager
    def _mean_inside(
        self, replica: Replica, weights: Sequence[torch.Tensor], share: float | None = None
    ) -> Iterator[None]:
        """Inside, `weights` and the buffers are means over the workers.

        Args:
            share: this worker's part in the mean of the weights, relative to 1; None: all alike.
        """
        if self.world.size == 1 or not (weights or replica.buffers):
            yield
            return
        what = "the averaging of what is validated and saved"
        vectors = [*weights, *replica.buffers]
        own = [vector.clone() for vector in vectors]
        self.world.meet([], what)
        exchange = self.exchange.lossless()
        for vector in weights:
            exchange.mean_(vector, weight=share, what=what)
        for vector in replica.buffers:
            exchange.mean_(vector, what=what)
        if weights:
            self._note_distance(weights, own[: len(weights)], what)
        replica.publish_parameters()
        try:
            yield
        finally:
            for vector, kept in zip(vectors, own, strict=True):
                vector.copy_(kept)
            replica.publish_parameters()

    def _note_distance(
        self, means: Sequence[torch.Tensor], own: Sequence[torch.Tensor], what: str
    ) -> None:
        """Record the consensus distance: root mean square of |x_i - mean|, over |mean|."""
        apart = sum(float((x - m).square().sum()) for x, m in zip(own, means, strict=True))
        length = sum(float(m.square().sum()) for m in means)
        (total,) = self.world.meet([apart / self.world.size], what)
        if length > 0:
            self.recorder.note("consensus_distance", math.sqrt(total / length))

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
        meeting = self._open_roll(bring, leaving=leaving)
        return self._close_roll(meeting, bring, f"step {self.steps + 1}")

    def _open_roll(self, bring: Bring, *, leaving: bool = False) -> Meeting:
        """Say what this worker brings; all rolls are alike, so one that leaves meets any."""
        bad = bring.loss is not None and not math.isfinite(bring.loss)
        known = 0.0 if bring.loss is None else bring.samples
        loss = bring.loss * bring.samples if bring.loss is not None and bring.samples else 0.0
        return self.world.open_meeting(
            [bring.samples, bring.samples**2, known, loss, bring.stop, bad, leaving]
        )

    def _close_roll(self, meeting: Meeting, bring: Bring, what: str) -> StepResult:
        """Hear what all have brought."""
        samples, squares, known, loss, stop, nan, left = self.world.close_meeting(
            meeting, what
        ).tolist()
        if 0 < left < self.world.size:
            raise UserError(
                f"{left:.0f} of {self.world.size} workers ended their loop while others are at "
                f"{what}: give every worker the same number of batches (replica.batches(...) does)"
            )
        if nan and self.stop_on_nan:
            bad = bring.loss is not None and not math.isfinite(bring.loss)
            flags = self.world.gather(bad, what)
            bad_peers = [p for p, flag in zip(self.world.peers, flags, strict=True) if flag]
            names = ", ".join(f"worker {peer.rank}" for peer in bad_peers)
            raise not_a_number(names, what)
        mean_loss = loss / known if known else math.nan
        weight = share_of(bring.samples, samples, squares, self.world.size)
        return StepResult(samples=samples, weight=weight, loss=mean_loss, stop=stop > 0)


def not_a_number(names: str, what: str) -> NotANumberError:
    """The error that ends a run whose loss has become NaN or infinite."""
    return NotANumberError(
        f"the loss of {names} is not a number at {what}: nothing of this step was kept; "
        "lower the learning rate, clip the gradient (train.clip_norm), or go on with "
        "--set train.on_nan=continue"
    )
