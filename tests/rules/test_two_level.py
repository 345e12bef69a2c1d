"""Two levels: a rule inside each host, another across hosts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.errors import NotANumberError, UserError
from arignote.exchange.open import open_exchange
from arignote.exchange.routes.hier import Hierarchical
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule

RATE, MOMENTUM = 0.1, 0.5
SIZE = 7
HOSTS = ["a", "a", "b", "b", "b"]


def make(
    text: str, world: Any, exchange: str = "auto", dtype: torch.dtype = torch.float64
) -> tuple[Rule, TorchReplica]:
    name, options = parse_rule(text)
    way = open_exchange(exchange, world)
    rule = RULES.load(name)(options, world, way, Recorder())
    module = nn.Linear(SIZE, 1, bias=False, dtype=dtype)
    nn.init.constant_(module.weight, 1.0 + world.rank)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM)
    return rule, TorchReplica(module, optimizer, allocate=way.route.allocate)


def gradient(x: Any, rank: int, step: int) -> Any:
    return x - np.random.default_rng((rank, step)).standard_normal(SIZE)


def samples(rank: int, step: int) -> int:
    return 1 + (rank + step) % 3


def train(rule: Rule, replica: TorchReplica, steps: range, *, even: bool = False) -> None:
    for step in steps:
        rank = rule.world.rank
        x = replica.parameters[0].numpy()
        replica.gradients[0].copy_(torch.from_numpy(gradient(x, rank, step)))
        rule.step(replica, Bring(samples=1 if even else samples(rank, step)))


def weights(
    text: str, hosts: list[str], steps: int, *, even: bool = False, **how: Any
) -> list[torch.Tensor]:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(text, world, **how)
        rule.start(replica)
        train(rule, replica, range(steps), even=even)
        rule.finish(replica)
        return replica.parameters[0].clone()

    return run_threads(thread_worlds(len(hosts), hosts=hosts), work)


def reference(hosts: list[str], steps: int, inner: int | None) -> Any:
    """bsp (inner = None) or local-sgd inside, diloco of period 6 (eta 0.6, mu 0.8) across."""
    workers = range(len(hosts))
    x, m = [np.ones(SIZE) for _ in workers], [np.zeros(SIZE) for _ in workers]
    old, v = np.ones(SIZE), np.zeros(SIZE)
    inside, across = np.zeros(len(hosts)), np.zeros(len(hosts))
    for step in range(steps):
        count = np.array([samples(i, step) for i in workers])
        inside, across = inside + count, across + count
        g = [gradient(x[i], i, step) for i in workers]
        mates = [[j for j in workers if hosts[j] == hosts[i]] for i in workers]
        if inner is None:
            g = [sum(count[j] * g[j] for j in s) / sum(count[j] for j in s) for s in mates]
        m = [MOMENTUM * mi + gi for mi, gi in zip(m, g, strict=True)]
        x = [xi - RATE * mi for xi, mi in zip(x, m, strict=True)]
        if inner and (step + 1) % inner == 0:
            x = [sum(inside[j] * x[j] for j in s) / sum(inside[j] for j in s) for s in mates]
            inside = np.zeros(len(hosts))
        if (step + 1) % 6 == 0:
            delta = sum(n * (old - xi) for n, xi in zip(across, x, strict=True)) / sum(across)
            v = 0.8 * v + delta
            old = old - 0.6 * (delta + 0.8 * v)
            x, across = [old.copy() for _ in workers], np.zeros(len(hosts))
    return x


OUTER = "diloco:period=6,outer_learning_rate=0.6,outer_momentum=0.8"


@pytest.mark.parametrize(
    "hosts", [["a"], ["a", "a", "a"], ["a", "b", "c"], ["a", "b", "a", "b"], HOSTS], ids="".join
)
@pytest.mark.parametrize(
    ("inner", "period"), [("bsp", None), ("bsp:overlap=on", None), ("local-sgd:period=4", 4)]
)
def test_against_numpy(hosts: list[str], inner: str, period: int | None) -> None:
    found = weights(f"{inner}/{OUTER}", hosts, 20)
    for x, wanted in zip(found, reference(hosts, 20, period), strict=True):
        np.testing.assert_allclose(x, wanted, rtol=1e-10)


@pytest.mark.parametrize("exchange", ["auto", "asa:fp32", "hier:fp32"])
def test_whatever_the_route_of_the_outer_exchange(exchange: str) -> None:
    found = weights(f"bsp/{OUTER}", HOSTS, 20, exchange=exchange)
    for x, wanted in zip(found, reference(HOSTS, 20, None), strict=True):
        np.testing.assert_allclose(x, wanted, rtol=1e-10)


@pytest.mark.parametrize(
    "outer",
    [
        "local-sgd:period=5",
        "post-local:period=5",
        "slowmo:period=5",
        "diloco:period=5",
        "streaming-diloco:period=5,fragments=3,delay=2",
    ],
)
def test_with_a_worker_a_host_it_is_the_outer_rule_bit_for_bit(outer: str) -> None:
    hosts = ["a", "b", "c"]
    for a, b in zip(weights(f"bsp/{outer}", hosts, 18), weights(outer, hosts, 18), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("outer", ["local-sgd:period=5", "slowmo:period=5,beta=0"])
def test_on_one_host_it_is_bsp(outer: str) -> None:
    # The mean of four equal vectors is exact.
    hosts = ["a"] * 4
    found = weights(f"bsp/{outer}", hosts, 18, even=True)
    for a, b in zip(found, weights("bsp:sharded=off", hosts, 18, even=True), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("exchange", ["hier:int8", "hier:onebit", "asa:int8"])
def test_lossy_codecs_cross_hosts_only(exchange: str) -> None:
    text = "bsp/diloco:period=4,outer_momentum=0.2"
    found = weights(text, HOSTS, 100, exchange=exchange, dtype=torch.float32)
    assert all(torch.equal(found[0], x) for x in found)
    assert float(found[0].abs().mean()) < 0.5


def test_inside_a_host_the_sum_is_made_in_place() -> None:
    def work(world: Any) -> tuple[bool, bool]:
        rule, replica = make("bsp/diloco", world)
        rule.start(replica)
        train(rule, replica, range(3))
        route: Any = rule.inner.exchange.route  # type: ignore[attr-defined]
        assert isinstance(route, Hierarchical)
        return (
            route._memory.find(replica.gradients[0]) is not None,
            not route._memory._staging,
        )

    assert run_threads(thread_worlds(5, hosts=HOSTS), work) == [(True, True)] * 5


def copied(state: Any) -> Any:
    """As a checkpoint holds it."""
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [copied(value) for value in state]
    return state.clone() if isinstance(state, torch.Tensor) else state


@pytest.mark.parametrize(
    "text",
    [
        "bsp/diloco:period=6",
        "local-sgd:period=4/slowmo:period=6",
        "bsp:scheme=weights/streaming-diloco:period=6,fragments=3,delay=3",
    ],
)
@pytest.mark.parametrize("hosts", [HOSTS, ["a"] * 3], ids="".join)
def test_resuming_in_mid_period_equals_not_stopping(text: str, hosts: list[str]) -> None:
    def work(world: Any) -> tuple[bool, int]:
        rule, replica = make(text, world)
        rule.start(replica)
        train(rule, replica, range(9))
        again, fresh = make(text, world)
        again.start(fresh)
        fresh.parameters[0].copy_(replica.parameters[0])
        fresh.load_optimizer_state(copied(replica.optimizer_state()))
        again.load_state_dict(copied(rule.state_dict()))
        for each in ((rule, replica), (again, fresh)):
            train(*each, range(9, 22))
        return torch.equal(replica.parameters[0], fresh.parameters[0]), again.steps

    found = run_threads(thread_worlds(len(hosts), hosts=hosts), work)
    assert found == [(True, 22)] * len(hosts)


def test_resuming_with_other_hosts_and_another_number_of_workers() -> None:
    text = "local-sgd:period=4/diloco:period=6,outer_momentum=0.3"

    def first(world: Any) -> Any:
        rule, replica = make(text, world)
        rule.start(replica)
        train(rule, replica, range(9))
        with rule.consensus(replica):
            return copied(rule.state_dict()), replica.parameters[0].clone()

    saved = run_threads(thread_worlds(5, hosts=HOSTS), first)

    def second(world: Any) -> Any:
        rule, replica = make(text, world)
        rule.start(replica)
        replica.parameters[0].copy_(saved[0][1])
        rule.merge_state_dicts([state for state, _ in saved])
        assert rule.steps == 9
        train(rule, replica, range(9, 12))
        return replica.parameters[0].clone()

    ends = run_threads(thread_worlds(3, hosts=["a", "b", "b"]), second)
    assert all(torch.equal(ends[0], x) for x in ends)


def test_consensus_is_over_all_hosts() -> None:
    def work(world: Any) -> float:
        rule, replica = make("bsp/diloco", world)
        rule.start(replica)
        replica.parameters[0].fill_(float(world.rank))
        with rule.consensus(replica):
            return float(replica.parameters[0][0])

    assert run_threads(thread_worlds(5, hosts=HOSTS), work) == [2.0] * 5


def test_a_wish_to_stop_reaches_all_hosts_at_the_same_step() -> None:
    def work(world: Any) -> list[int]:
        rule, replica = make("bsp/diloco:period=6", world)
        rule.start(replica)
        told = world.rank == 1
        return [
            step
            for step in range(1, 13)
            if rule.step(replica, Bring(samples=1, stop=told and step >= 3)).stop
        ]

    assert run_threads(thread_worlds(5, hosts=HOSTS), work) == [[6, 12]] * 5


def test_a_loss_that_is_no_number_stops_its_host_at_once_and_changes_nothing() -> None:
    def work(world: Any) -> tuple[bool, str]:
        rule, replica = make("bsp/diloco:period=60", world)
        rule.start(replica)
        train(rule, replica, range(2))
        before = replica.parameters[0].clone()
        try:
            rule.step(replica, Bring(samples=1, loss=float("nan") if world.rank == 3 else 0.5))
        except NotANumberError as error:
            return torch.equal(before, replica.parameters[0]), str(error)
        return False, "went on"

    found = run_threads(thread_worlds(5, hosts=HOSTS), work)
    assert found[:2] == [(False, "went on")] * 2
    for unchanged, message in found[2:]:
        assert unchanged
        assert "is not a number at step 3:" in message


def test_a_host_that_ends_its_loop_early_is_told_of() -> None:
    def work(world: Any) -> str:
        rule, replica = make("bsp/diloco:period=6", world)
        rule.start(replica)
        try:
            train(rule, replica, range(12 if world.rank < 2 else 20))
            rule.finish(replica)
        except UserError as error:
            return str(error)
        return "nothing"

    for message in run_threads(thread_worlds(5, hosts=HOSTS), work):
        assert message.startswith("2 of 5 workers ended their loop while others are at step")


def test_a_worker_that_ends_its_loop_early_is_told_of_on_its_host() -> None:
    def work(world: Any) -> str:
        rule, replica = make("bsp/diloco:period=6", world)
        rule.start(replica)
        # In a run the launcher ends those of the other host; here they end by themselves.
        train(rule, replica, range(2))
        if world.rank < 2:
            return ""
        try:
            train(rule, replica, range(2, 3 if world.rank == 2 else 5))
            rule.finish(replica)
        except UserError as error:
            return str(error)
        return "nothing"

    for message in run_threads(thread_worlds(5, hosts=HOSTS), work)[2:]:
        assert message.startswith("1 of 3 workers ended their loop while others are at step 4")
