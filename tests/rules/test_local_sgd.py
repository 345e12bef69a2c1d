"""Local SGD against a NumPy reference, and what all periodic rules do between rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.errors import NotANumberError, UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule
from arignote.rules.periodic import SIGNAL_STEPS

RATE, MOMENTUM = 0.1, 0.5
SIZE = 5


def make(text: str, world: Any) -> tuple[Rule, TorchReplica]:
    name, options = parse_rule(text)
    exchange = open_exchange("shm", world)
    rule = RULES.load(name)(options, world, exchange, Recorder())
    module = nn.Linear(SIZE, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(module.weight, 1.0 + world.rank)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM)
    return rule, TorchReplica(module, optimizer, allocate=exchange.route.allocate)


def gradient(x: Any, rank: int, step: int) -> Any:
    """Of |x - c|^2 / 2; c differs between workers and steps."""
    return x - np.random.default_rng((rank, step)).standard_normal(SIZE)


def train(rule: Rule, replica: TorchReplica, steps: range, samples: float = 4) -> None:
    for step in steps:
        x = replica.parameters[0].numpy()
        replica.gradients[0].copy_(torch.from_numpy(gradient(x, rule.world.rank, step)))
        rule.step(replica, Bring(samples=samples))


def weights(text: str, counts: list[int], steps: int) -> list[Any]:
    def work(world: Any) -> Any:
        rule, replica = make(text, world)
        rule.start(replica)
        train(rule, replica, range(steps), counts[world.rank])
        rule.finish(replica)
        return replica.parameters[0].clone().numpy()

    return run_threads(thread_worlds(len(counts)), work)


def reference(counts: list[int], period: int, steps: int) -> list[Any]:
    x = [np.ones(SIZE) for _ in counts]
    v = [np.zeros(SIZE) for _ in counts]
    share = np.array(counts) / sum(counts)
    for step in range(steps):
        for i, count in enumerate(counts):
            if count:
                v[i] = MOMENTUM * v[i] + gradient(x[i], i, step)
                x[i] = x[i] - RATE * v[i]
        if (step + 1) % period == 0:
            mean = sum(s * xi for s, xi in zip(share, x, strict=True))
            x = [mean.copy() for _ in counts]
    return x


@pytest.mark.parametrize("counts", [[4], [4, 4], [5, 2, 1], [3, 0, 4, 1]], ids=str)
def test_against_numpy(counts: list[int]) -> None:
    # 13 steps: it ends in mid-period, where workers differ.
    for x, wanted in zip(
        weights("local-sgd:period=4", counts, 13), reference(counts, 4, 13), strict=True
    ):
        np.testing.assert_allclose(x, wanted, rtol=1e-12)


def test_a_period_of_one_is_bsp_with_weights_bit_for_bit() -> None:
    for a, b in zip(
        weights("local-sgd:period=1", [4, 4, 4], 10),
        weights("bsp:scheme=weights", [4, 4, 4], 10),
        strict=True,
    ):
        assert np.array_equal(a, b)


def test_consensus_is_the_mean_and_puts_everyones_own_back() -> None:
    def work(world: Any) -> tuple[float, float]:
        rule, replica = make("local-sgd:period=9", world)
        rule.start(replica)
        replica.parameters[0].fill_(float(world.rank))
        with rule.consensus(replica):
            inside = float(replica.parameters[0][0])
        return inside, float(replica.parameters[0][0])

    assert run_threads(thread_worlds(3), work) == [(1.0, 0.0), (1.0, 1.0), (1.0, 2.0)]


def test_a_wish_to_stop_is_heard_in_the_middle_of_a_long_period() -> None:
    def work(world: Any) -> list[int]:
        rule, replica = make("local-sgd:period=1000", world)
        rule.start(replica)
        told = world.rank == 1
        stops = [
            step
            for step in range(1, 30)
            if rule.step(replica, Bring(samples=1, stop=told and step >= 3)).stop
        ]
        rule.finish(replica)
        return stops

    # Said at step 8, heard at step 16, and again 8 steps later.
    assert run_threads(thread_worlds(3), work) == [[2 * SIGNAL_STEPS, 3 * SIGNAL_STEPS]] * 3


def test_not_a_number_is_told_at_once_by_the_worker_that_has_it() -> None:
    rule, replica = make("local-sgd:period=10", SerialWorld())
    rule.start(replica)
    rule.step(replica, Bring(samples=1, loss=0.5))
    before = replica.parameters[0].clone()
    with pytest.raises(NotANumberError, match="the loss of worker 0 is not a number at step 2:"):
        rule.step(replica, Bring(samples=1, loss=float("nan")))
    assert torch.equal(before, replica.parameters[0])


def test_a_worker_that_leaves_early_is_told_of() -> None:
    def work(world: Any) -> str:
        rule, replica = make("local-sgd:period=20", world)
        rule.start(replica)
        try:
            train(rule, replica, range(10 if world.rank else 40))
            rule.finish(replica)
        except UserError as error:
            return str(error)
        return "nothing"

    for message in run_threads(thread_worlds(3), work):
        assert message.startswith("2 of 3 workers ended their loop while others are at step")


def resumed(text: str, stop_at: int, steps: int, before: int, now: int) -> list[Any]:
    """Weights of a run of `before` workers that goes on with `now`; `now` = 0: it never stops."""

    def first(world: Any) -> Any:
        rule, replica = make(text, world)
        rule.start(replica)
        train(rule, replica, range(stop_at), world.rank + 1)
        if not now:
            train(rule, replica, range(stop_at, steps), world.rank + 1)
            return replica.parameters[0].clone()
        state, optimizer = rule.state_dict(), replica.optimizer_state()
        with rule.consensus(replica):
            mean = replica.parameters[0].clone()
        return state, optimizer, mean, replica.parameters[0].clone()

    saved = run_threads(thread_worlds(before), first)
    if not now:
        return saved

    def second(world: Any) -> Any:
        state, optimizer, mean, own = saved[world.rank % before]
        rule, replica = make(text, world)
        rule.start(replica)
        replica.load_optimizer_state(optimizer)
        if now == before:
            replica.parameters[0].copy_(own)
            rule.load_state_dict(state)
        else:
            replica.parameters[0].copy_(mean)
            rule.merge_state_dicts([each[0] for each in saved])
        train(rule, replica, range(stop_at, steps), world.rank + 1)
        return replica.parameters[0].clone()

    return run_threads(thread_worlds(now), second)


def test_resuming_in_mid_period_equals_not_stopping() -> None:
    straight = resumed("local-sgd:period=4", 6, 13, 3, 0)
    again = resumed("local-sgd:period=4", 6, 13, 3, 3)
    assert all(torch.equal(a, b) for a, b in zip(straight, again, strict=True))


@pytest.mark.parametrize(("before", "now"), [(4, 2), (2, 3), (3, 1)])
def test_resuming_with_another_number_of_workers(before: int, now: int) -> None:
    for x in resumed("local-sgd:period=4", 6, 12, before, now):
        # A round ends step 12, so all are equal; the noise has mean 0, so x goes there from 1.
        assert torch.isfinite(x).all() and float(x.abs().max()) < 2
    ends = resumed("local-sgd:period=4", 6, 12, before, now)
    assert all(torch.equal(ends[0], x) for x in ends)
