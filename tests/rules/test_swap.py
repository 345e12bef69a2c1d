"""swap: whose weights are where, against the matchings; nothing lost, resumed exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arignote.checkpoint.pack import load_state
from arignote.comm.base import World
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.errors import UserError
from arignote.exchange.open import open_exchange
from arignote.exchange.routes.pair import matching
from arignote.frameworks.array_replica import ArrayReplica
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring
from arignote.rules.swap import Swap

ELEMENTS, PERIOD, STEPS = 7_001, 2, 13


def run(workers: int, work: Callable[[World], Any]) -> list[Any]:
    worlds = [SerialWorld()] if workers == 1 else thread_worlds(workers)
    return run_threads(worlds, work)


def make(world: World, exchange: str = "auto", period: int = PERIOD) -> Swap:
    _, options = parse_rule(f"swap:period={period}")
    return Swap(options, world, open_exchange(exchange, world), Recorder())  # type: ignore[arg-type]


def arrays(world: World) -> list[Any]:
    """A model of two dtypes, of small whole numbers, which every codec of weights keeps."""
    ramp = np.arange(ELEMENTS) % 100
    return [(ramp + world.rank).astype(np.float32), np.full((2, 3), world.rank, np.float64)]


def made_alike_then_own(rule: Swap, world: World) -> tuple[ArrayReplica, list[Any]]:
    """A started rule's replica, whose weights then differ between workers."""
    params = arrays(world)
    replica = ArrayReplica(params, allocate=rule.exchange.route.allocate)
    rule.start(replica)
    for array, own in zip(params, arrays(world), strict=True):
        array[:] = own
    return replica, params


def place_after(workers: int, rounds: int) -> list[int]:
    """Whose weights each worker has."""
    place = list(range(workers))
    for number in range(rounds):
        place = [place[partner] for partner in matching(workers, number)]
    return place


@pytest.mark.parametrize("exchange", ["auto", "asa:fp16", "pair:bf16"])
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5])
def test_all_vectors_are_there_again_in_other_hands(exchange: str, workers: int) -> None:
    def work(world: World) -> tuple[list[int], Recorder]:
        rule = make(world, exchange)
        replica, params = made_alike_then_own(rule, world)
        owners = []
        for _ in range(STEPS):
            rule.step(replica, Bring(samples=1))
            owner = int(params[1][0, 0])
            assert np.array_equal(params[0], np.arange(ELEMENTS) % 100 + owner)
            assert (params[1] == owner).all()
            owners.append(owner)
        rule.finish(replica)
        return owners, rule.recorder

    results = run(workers, work)
    for step in range(1, STEPS + 1):
        place = place_after(workers, step // PERIOD)
        assert [owners[step - 1] for owners, _ in results] == place
        assert sorted(place) == list(range(workers))
    traded = workers // 2 * 2 * (STEPS // PERIOD)
    sent = sum(recorder.wire_bytes for _, recorder in results)
    each = ELEMENTS * 4 + 6 * 8 if exchange == "auto" else (ELEMENTS + 6) * 2
    assert traded * each <= sent <= traded * each * 1.01
    assert [recorder.exchanges for _, recorder in results] == [STEPS // PERIOD] * workers


def test_between_rounds_each_worker_makes_plain_steps() -> None:
    def work(world: World) -> list[float]:
        module = nn.Linear(2, 1, bias=False, dtype=torch.float64)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.25)
        rule = make(world)
        replica = TorchReplica(module, optimizer, allocate=rule.exchange.route.allocate)
        nn.init.ones_(module.weight)
        rule.start(replica)
        for _ in range(5):
            replica.zero_grad()
            # Towards this worker's own optimum: its rank.
            (0.5 * (module.weight - world.rank).square().sum()).backward()
            rule.step(replica, Bring(samples=1, loss=0.0))
        rule.finish(replica)
        return module.weight.detach().flatten().tolist()

    expected = np.ones(3)
    for step in range(1, 6):
        expected -= 0.25 * (expected - np.arange(3))
        if step % PERIOD == 0:
            expected = expected[matching(3, step // PERIOD - 1)]
    assert run(3, work) == [[value] * 2 for value in expected]


def test_batch_norm_statistics_travel_with_their_weights() -> None:
    def work(world: World) -> tuple[float, float]:
        module = nn.BatchNorm1d(2)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        rule = make(world, period=1)
        replica = TorchReplica(module, optimizer, allocate=rule.exchange.route.allocate)
        rule.start(replica)
        nn.init.constant_(module.weight, world.rank)
        replica.buffers[0].fill_(world.rank)
        rule.step(replica, Bring(samples=0))
        return float(module.weight.detach()[0]), float(replica.buffers[0][0])

    assert run(2, work) == [(1.0, 1.0), (0.0, 0.0)]


def test_consensus_is_each_workers_own() -> None:
    def work(world: World) -> bool:
        rule = make(world)
        replica, params = made_alike_then_own(rule, world)
        replica.collect_parameters()
        with rule.consensus(replica):
            return bool((params[1] == world.rank).all()) and rule.weights_are_local

    assert run(3, work) == [True] * 3


@pytest.mark.parametrize("exchange", ["auto", "asa:fp16"])
def test_resumed_it_draws_on(exchange: str) -> None:
    def work(world: World, stop_after: int | None) -> int:
        rule = make(world, exchange)
        replica, params = made_alike_then_own(rule, world)
        for step in range(STEPS):
            if step == stop_after:
                state, kept = rule.state_dict(), [array.copy() for array in params]
                rule = make(world, exchange)
                replica, params = made_alike_then_own(rule, world)
                rule.load_state_dict(state)
                for array, saved in zip(params, kept, strict=True):
                    array[:] = saved
            rule.step(replica, Bring(samples=1))
        return int(params[1][0, 0])

    straight = run(5, lambda world: work(world, None))
    assert straight == place_after(5, STEPS // PERIOD)
    for stop_after in (4, 7):
        assert run(5, lambda world, at=stop_after: work(world, at)) == straight  # type: ignore[misc]


def test_with_more_workers_the_matchings_go_on_too() -> None:
    def before(world: World) -> dict[str, Any]:
        rule = make(world)
        replica, _ = made_alike_then_own(rule, world)
        for _ in range(6):
            rule.step(replica, Bring(samples=1))
        return rule.state_dict()

    states = run(2, before)

    def after(world: World) -> int:
        rule = make(world)
        replica, params = made_alike_then_own(rule, world)
        rule.merge_state_dicts(states)
        for _ in range(PERIOD):
            rule.step(replica, Bring(samples=1))
        return int(params[1][0, 0])

    assert run(4, after) == matching(4, 3)


@pytest.mark.parametrize("codec", ["int8", "onebit", "topk"])
def test_refuses_codecs_of_gradients(codec: str) -> None:
    with pytest.raises(
        UserError,
        match=rf"^swap trades weights, and {codec} only suits .*: use pair:fp32 or pair:fp16 or .*",
    ):
        made_alike_then_own(make(SerialWorld(), f"asa:{codec}"), SerialWorld())


@pytest.mark.parametrize("options", ["period=0", "period=2.5", "alpha=1", "often"])
def test_refuses_options(options: str) -> None:
    with pytest.raises(UserError, match=r"^rule swap: .*period|^rule swap: .*greater"):
        parse_rule(f"swap:{options}")


def test_a_run_saves_everybodys_weights_and_resumes_exactly(train: Any, tmp_path: Any) -> None:
    settings = {"run.rule": "swap:period=5", "train.epochs": 2, "train.batch_size": 64}
    straight = train(2, settings, folder="straight")
    train(2, settings, folder="stopped", stop_at=13)
    assert train(2, settings, folder="stopped", resume=True).sha == straight.sha
    newest = sorted((tmp_path / "straight/checkpoints").glob("step-*"))[-1]
    own = [load_state(newest / f"worker-{rank:05d}.safetensors")["parameters"] for rank in (0, 1)]
    assert not torch.equal(own[0][0], own[1][0])
