"""SlowMo against the paper's formulas, and its identity with local SGD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.exchange.open import open_exchange
from arignote.frameworks.array_replica import ArrayReplica
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule
from arignote.rules.slowmo import slow_step_

SIZE = 5
RATES = [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.0, 0.02, 0.02, 0.02, 0.02]


def make(text: str, world: Any) -> tuple[Rule, TorchReplica]:
    name, options = parse_rule(text)
    exchange = open_exchange("shm", world)
    rule = RULES.load(name)(options, world, exchange, Recorder())
    module = nn.Linear(SIZE, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(module.weight)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    return rule, TorchReplica(module, optimizer, allocate=exchange.route.allocate)


def gradient(x: Any, rank: int, step: int) -> Any:
    return x - np.random.default_rng((rank, step)).standard_normal(SIZE)


def train(rule: Rule, replica: TorchReplica, steps: range, samples: float = 4) -> None:
    for step in steps:
        replica.optimizer.param_groups[0]["lr"] = RATES[step % len(RATES)]
        x = replica.parameters[0].numpy()
        replica.gradients[0].copy_(torch.from_numpy(gradient(x, rule.world.rank, step)))
        rule.step(replica, Bring(samples=samples))


def weights(text: str, counts: list[int], steps: int) -> list[torch.Tensor]:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(text, world)
        rule.start(replica)
        train(rule, replica, range(steps), counts[world.rank])
        return replica.parameters[0].clone()

    return run_threads(thread_worlds(len(counts)), work)


def test_one_slow_step_by_hand() -> None:
    mean, old, momentum = (torch.tensor([value]) for value in (2.0, 6.0, 3.0))
    slow_step_(mean, old, momentum, alpha=0.5, beta=0.25, rate=2.0)
    # u = 0.25 * 3 + (6 - 2) / 2 = 2.75;  x = 6 - 0.5 * 2 * 2.75 = 3.25
    assert (mean.item(), old.item(), momentum.item()) == (3.25, 3.25, 2.75)


def reference(counts: list[int], steps: int, alpha: float, beta: float) -> Any:
    """The paper's own three lines, at steps that end a period of 4."""
    x = [np.ones(SIZE) for _ in counts]
    old, u = np.ones(SIZE), np.zeros(SIZE)
    share = np.array(counts) / sum(counts)
    for step in range(steps):
        rate = RATES[step % len(RATES)]
        x = [xi - rate * gradient(xi, i, step) for i, xi in enumerate(x)]
        if (step + 1) % 4 == 0:
            mean = sum(s * xi for s, xi in zip(share, x, strict=True))
            gamma = rate or 1.0
            u = beta * u + (old - mean) / gamma
            old = old - alpha * gamma * u
            x = [old.copy() for _ in counts]
    return x


@pytest.mark.parametrize("counts", [[4], [4, 4], [5, 2, 1], [3, 1, 4, 1]], ids=str)
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.7), (0.5, 0.4), (2.0, 0.0)])
def test_against_numpy(counts: list[int], alpha: float, beta: float) -> None:
    found = weights(f"slowmo:period=4,alpha={alpha},beta={beta}", counts, 14)
    for x, wanted in zip(found, reference(counts, 14, alpha, beta), strict=True):
        np.testing.assert_allclose(x, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("counts", [[4], [4, 4], [5, 2, 1], [3, 1, 4, 1]], ids=str)
def test_without_momentum_it_is_local_sgd_bit_for_bit(counts: list[int]) -> None:
    slow = weights("slowmo:period=3,alpha=1,beta=0", counts, 11)
    local = weights("local-sgd:period=3", counts, 11)
    for a, b in zip(slow, local, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_zero_keeps_its_sign_as_in_local_sgd() -> None:
    mean, old, momentum = torch.tensor([-0.0]), torch.tensor([1.0]), torch.tensor([1.0])
    slow_step_(mean, old, momentum, alpha=1.0, beta=0.0, rate=0.1)
    assert torch.signbit(mean).item()


def test_a_constant_rate_cancels_out() -> None:
    ends = []
    for rate in (0.001, 1.0, 30.0):
        mean, old, momentum = (torch.zeros(1, dtype=torch.float64) for _ in range(3))
        for value in (1.0, 3.0, -2.0):
            mean.fill_(value)
            slow_step_(mean, old, momentum, alpha=0.9, beta=0.6, rate=rate)
        ends.append(mean.item())
    assert ends == pytest.approx([ends[0]] * 3)


def test_an_unknown_rate_counts_as_one() -> None:
    def work(world: Any) -> list[float]:
        exchange = open_exchange("shm", world)
        array = np.zeros(2)
        replica = ArrayReplica([array], allocate=exchange.route.allocate)
        name, options = parse_rule("slowmo:period=1,beta=0.5")
        rule = RULES.load(name)(options, world, exchange, Recorder())
        rule.start(replica)
        seen = []
        for _ in range(3):
            array += 1.0 + world.rank
            rule.step(replica, Bring(samples=1))
            seen.append(float(array[0]))
        return seen

    # Steps of 1.5 on average: u = -1.5, then -2.25, then -2.625.
    assert run_threads(thread_worlds(2), work) == [[1.5, 3.75, 6.375]] * 2


@pytest.mark.parametrize(("before", "now"), [(3, 3), (4, 2), (2, 3)])
def test_resuming_in_mid_period(before: int, now: int) -> None:
    text = "slowmo:period=4"

    def first(world: Any) -> Any:
        rule, replica = make(text, world)
        rule.start(replica)
        train(rule, replica, range(6))
        own, state = replica.parameters[0].clone(), rule.state_dict()
        kept = {**state, "old": [state["old"][0].clone()], "momentum": [state["momentum"][0] + 0]}
        with rule.consensus(replica):
            mean = replica.parameters[0].clone()
        train(rule, replica, range(6, 13))
        return kept, own, mean, replica.parameters[0].clone()

    saved = run_threads(thread_worlds(before), first)

    def second(world: Any) -> Any:
        rule, replica = make(text, world)
        rule.start(replica)
        state, own, mean, _ = saved[world.rank % before]
        if now == before:
            replica.parameters[0].copy_(own)
            rule.load_state_dict(state)
        else:
            replica.parameters[0].copy_(mean)
            rule.merge_state_dicts([each[0] for each in saved])
            assert torch.equal(rule.state_dict()["old"][0], saved[0][0]["old"][0])
        train(rule, replica, range(6, 13 if now == before else 12))
        return replica.parameters[0].clone()

    ends = run_threads(thread_worlds(now), second)
    if now == before:
        assert all(torch.equal(a, each[3]) for a, each in zip(ends, saved, strict=True))
    else:
        assert all(torch.equal(a, ends[0]) for a in ends)
