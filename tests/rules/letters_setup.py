"""What the tests of gosgd, adpsgd and sgp share: small replicas, and an audit of what is where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arignote.checkpoint.pack import load_state, save_state
from arignote.comm.base import World
from arignote.comm.script import Script, Text
from arignote.comm.threads import restart_script, run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.exchange.letter_format import Array
from arignote.exchange.letters import Incoming, Letter, Mailbox
from arignote.exchange.open import open_exchange
from arignote.frameworks.array_replica import ArrayReplica
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule

NOTHING, ANSWER = Bring(samples=0), 1.0


def make(spec: str, world: World, exchange: str = "asa") -> Any:
    """The rule that `spec` names."""
    name, options = parse_rule(spec)
    return RULES.load(name)(options, world, open_exchange(exchange, world), Recorder())


def with_arrays(rule: Rule, *dtypes: Any) -> ArrayReplica:
    """Start `rule`; its vectors (of each dtype one) are each worker's own then."""
    params: list[Any] = [torch.zeros(5, dtype=dtype) for dtype in dtypes or (torch.float64,)]
    replica = ArrayReplica(params, allocate=rule.exchange.route.allocate)
    rule.start(replica)
    for array in params:
        array += torch.from_numpy(np.random.default_rng(rule.world.rank).normal(size=5))
    replica.collect_parameters()
    rule.world.meet([], "the start")
    return replica


def with_regression(rule: Rule) -> TorchReplica:
    """Start `rule` with a linear model."""
    module = nn.Linear(3, 1, dtype=torch.float64)
    with torch.no_grad():
        module.weight.zero_()
        module.bias.zero_()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    replica = TorchReplica(module, optimizer, allocate=rule.exchange.route.allocate)
    rule.start(replica)
    return replica


def train(rule: Rule, replica: TorchReplica, step: int) -> None:
    """A step of the regression, whose optimum is (1, -2, 0.5, 0.25)."""
    generator = torch.Generator().manual_seed(1000 * rule.world.rank + step)
    inputs = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    targets = inputs @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.25
    replica.zero_grad()
    (replica.module(inputs) - targets).square().mean().backward()
    rule.step(replica, Bring(samples=4))


def reload(
    spec: str, world: World, rule: Rule, replica: TorchReplica, path: Path
) -> tuple[Any, TorchReplica]:
    """Save a worker's all to a file, and go on from it with a rule and a model made anew."""
    state = rule.state_dict()
    parameters, optimizer = list(replica.parameters), replica.optimizer_state()
    save_state(path, {"rule": state, "parameters": parameters, "optimizer": optimizer})
    saved = load_state(path)
    rule = make(spec, world, rule.exchange.name)
    replica = with_regression(rule)
    rule.load_state_dict(saved["rule"])
    replica.load_optimizer_state(saved["optimizer"])
    for vector, kept in zip(replica.parameters, saved["parameters"], strict=True):
        vector.copy_(kept)
    return rule, replica


class Audited(Script):
    """A script that looks at everything before every operation of any worker."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.audits: list[Callable[[], None]] = []

    def pause(self, at: Text) -> None:
        """See `Script.pause`."""
        for audit in self.audits:
            audit()
        super().pause(at)


class Post:
    """Knows all letters on their way: what was sent, and what nobody has opened yet."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.flying: dict[tuple[int, int], list[tuple[list[float], list[Array]]]] = defaultdict(
            list
        )
        self.sent: list[tuple[int, int, bool]] = []
        """(from, to, whether it is an answer of adpsgd) of all that were ever sent."""
        send, opened = Mailbox.send, Mailbox._open

        def counted_send(
            box: Mailbox, to: int, numbers: list[float], vectors: list[Array]
        ) -> list[Array]:
            arrives = send(box, to, numbers, vectors)
            copies = [vector.copy() for vector in arrives]
            self.flying[box.world.rank, to].append((list(numbers), copies))
            self.sent.append((box.world.rank, to, numbers[0] == ANSWER))
            return arrives

        def counted_open(box: Mailbox, incoming: Incoming) -> Letter:
            self.flying[incoming.source, box.world.rank].pop(0)
            return opened(box, incoming)

        patch.setattr(Mailbox, "send", counted_send)
        patch.setattr(Mailbox, "_open", counted_open)

    def letters(self) -> list[tuple[list[float], list[Array]]]:
        """(numbers, vectors) of those on their way."""
        return [letter for letters in self.flying.values() for letter in letters]


def resumed_and_not(
    spec: str, workers: int, seed: int, folder: Path, post: Post
) -> tuple[list[Any], list[Any], int]:
    """[weights, steps, ...] of all workers of a run that saves, and of one that resumes there.

    And how many letters were on their way then.
    """
    flying: list[int] = []

    def work(world: World, resumes: bool) -> list[Any]:
        rule = make(spec, world)
        replica = with_regression(rule)
        for step in range(8):
            if step == 4:
                flying.append(len(post.letters()))
            if step == 4 and resumes:
                rule, replica = reload(spec, world, rule, replica, folder / f"{world.rank}")
            elif step == 4:
                rule.state_dict()
            if step == 4:
                restart_script(world, seed)
            train(rule, replica, step)
        state = rule.state_dict()
        return [replica.parameters[0].tolist(), state["steps"], str(state.get("random"))]

    straight, resumed = (
        run_threads(thread_worlds(workers, script=Script(seed)), partial(work, resumes=resumes))
        for resumes in (False, True)
    )
    return straight, resumed, max(flying)


class Stuck:
    """A request that is done only when it is told to be."""

    peer, free = 0, False

    def done(self) -> bool:
        """Whether it was."""
        return self.free
