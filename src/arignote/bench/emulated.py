"""Training whose compute is a sleep: what exchanging costs, where several workers share a core.

Real computing of several workers on one core would take turns, so that a slow worker would leave
the others more of it. A sleep takes no core, and lasts as long whoever else is there. Rules,
exchanges and vectors are real.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from arignote.comm.crew import Crew
from arignote.config.rule_options import parse_rule
from arignote.exchange.exchange import Exchange
from arignote.exchange.open import open_exchange
from arignote.frameworks.base import Allocate, Replica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule, StepResult

_CPU = torch.device("cpu")


class EmulatedReplica(Replica):
    """A vector and its gradient, both float32; nothing learns.

    Args:
        allocate: where their memory comes from (a route's `allocate`).
    """

    buffers = ()
    counters = ()
    constants = ()

    def __init__(self, elements: int, allocate: Allocate) -> None:
        self.parameters = (allocate(elements, torch.float32, _CPU),)
        self.gradients = (allocate(elements, torch.float32, _CPU),)
        self.shapes = ((torch.Size((elements,)),),)
        for vector in (*self.parameters, *self.gradients):
            vector.normal_()

    @property
    def learning_rate(self) -> float:
        """Some rules ask for it."""
        return 0.1

    def collect_gradients(self) -> None:
        """They are where they belong."""

    def collect_parameters(self) -> None:
        """They are where they belong."""

    def publish_parameters(self) -> None:
        """They are where they belong."""

    def update(self) -> None:
        """Slept through with the rest of the step."""

    def named_tensors(self) -> dict[str, torch.Tensor]:
        """The vector."""
        return {"vector": self.parameters[0]}

    def load_named_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        """Copy it."""
        self.parameters[0].copy_(tensors["vector"])

    def optimizer_state(self) -> dict[str, Any]:
        """There is no optimizer."""
        return {}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """There is no optimizer."""


class Emulation:
    """A worker of a rule, at work; collective to make, as `Rule.start` is.

    Args:
        rule, exchange: as in `--rule` and `--exchange`.
        replica: one that is there already; None: make one of `elements`.
    """

    def __init__(
        self,
        rule: str,
        exchange: str,
        crew: Crew,
        elements: int,
        replica: EmulatedReplica | None = None,
    ) -> None:
        name, options = parse_rule(rule)
        opened: Exchange = open_exchange(exchange, crew.workers)
        self.options = options
        self.recorder = Recorder()
        self.rule: Rule = RULES.load(name)(options, crew.workers, opened, self.recorder, crew=crew)
        self.replica = replica or EmulatedReplica(elements, opened.route.allocate)
        self.rule.start(self.replica)

    def step(self, seconds: float, *, stop: bool = False) -> StepResult:
        """Sleep, then what the rule does after a backward."""
        self.recorder.start()
        if seconds:
            time.sleep(seconds)
        self.recorder.end("calc")
        return self.rule.step(self.replica, Bring(samples=1, stop=stop))

    def phases(self, before: dict[str, float] | None = None) -> dict[str, float]:
        """Seconds of each phase, since `before`."""
        start = before or {}
        return {name: s - start.get(name, 0.0) for name, s in self.recorder.seconds.items()}

    def finish(self) -> None:
        """Collective."""
        self.rule.finish(self.replica)
