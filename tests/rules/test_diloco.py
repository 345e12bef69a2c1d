"""DiLoCo against torch's Nesterov SGD, with lossy codecs, uneven batches and resumes."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arignote.comm.threads import run_threads, thread_worlds
from arignote.frameworks.torch_replica import TorchReplica
from arignote.rules.base import Bring, Rule
from arignote.rules.outer import nesterov_

sys.path.insert(0, str(Path(__file__).parent))
from outer_setup import RATE, centre, make


def train(rule: Rule, replica: TorchReplica, steps: range, samples: float = 4) -> None:
    """On |x - c|^2 / 2, whose c is drawn around 1 for each worker and step."""
    for step in steps:
        x = replica.parameters[0]
        replica.gradients[0].copy_(x - torch.from_numpy(centre(rule.world.rank, step)))
        rule.step(replica, Bring(samples=samples))


def weights(
    text: str, counts: list[int], steps: int, *, hosts: Any = (), **how: Any
) -> list[torch.Tensor]:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(text, world, **how)
        rule.start(replica)
        train(rule, replica, range(steps), counts[world.rank])
        rule.finish(replica)
        return replica.parameters[0].clone()

    return run_threads(thread_worlds(len(counts), hosts=hosts), work)


def test_the_outer_step_is_torchs_nesterov_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(9, generator=generator))
    old, velocity = parameter.detach().clone(), torch.zeros(9)
    optimizer = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)
    for _ in range(5):
        delta = torch.randn(9, generator=generator)
        parameter.grad = delta.clone()
        optimizer.step()
        nesterov_(old, velocity, delta, rate=0.7, momentum=0.9)
        assert torch.equal(old, parameter.detach())


def test_one_outer_step_by_hand() -> None:
    old, velocity, delta = (torch.tensor([value]) for value in (5.0, 2.0, 4.0))
    nesterov_(old, velocity, delta, rate=0.5, momentum=0.25)
    # v = 0.25 * 2 + 4 = 4.5;  theta = 5 - 0.5 (4 + 0.25 * 4.5) = 2.4375
    assert (old.item(), velocity.item()) == (2.4375, 4.5)


@pytest.mark.parametrize("counts", [[4], [4, 4], [5, 2, 1], [3, 0, 4, 1]], ids=str)
def test_against_numpy(counts: list[int]) -> None:
    text = "diloco:period=4,outer_learning_rate=0.6,outer_momentum=0.8"
    found = weights(text, counts, 18)
    first = np.append(torch.linspace(-1, 1, 42).double().numpy(), np.full(7, 0.5))
    x, old, v = [first.copy() for _ in counts], first, np.zeros(49)
    share = np.array(counts) / sum(counts)
    for step in range(18):
        for i, count in enumerate(counts):
            x[i] = x[i] - RATE * (x[i] - centre(i, step)) * (count > 0)
        if (step + 1) % 4 == 0:
            delta = sum(s * (old - xi) for s, xi in zip(share, x, strict=True))
            v = 0.8 * v + delta
            old = old - 0.6 * (delta + 0.8 * v)
            x = [old.copy() for _ in counts]
    for vector, wanted in zip(found, x, strict=True):
        np.testing.assert_allclose(vector, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("counts", [[4], [4, 4], [5, 2, 1], [4, 4, 4, 4]], ids=str)
def test_a_plain_outer_step_is_local_sgd_to_rounding(counts: list[int]) -> None:
    plain = weights("diloco:period=4,outer_learning_rate=1,outer_momentum=0", counts, 24)
    local = weights("local-sgd:period=4", counts, 24)
    for a, b in zip(plain, local, strict=True):
        # 6 rounds; each rounds a few numbers of size 2 at most.
        assert float((a - b).abs().max()) < 1e-14


@pytest.mark.parametrize(
    "exchange", ["shm", "asa:int8", "asa:onebit", "asa:topk,k=0.3", "asa:powersgd,rank=2"]
)
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_lossy_codecs_leave_all_workers_with_equal_weights_near_the_optimum(
    exchange: str, workers: int
) -> None:
    text = "diloco:period=5,outer_learning_rate=0.7,outer_momentum=0.3"
    found = weights(text, [4] * workers, 150, exchange=exchange, dtype=torch.float32)
    assert all(torch.equal(found[0], vector) for vector in found)
    assert float((found[0] - 1).abs().mean()) < 0.25


def test_lossy_codecs_between_hosts_with_several_workers() -> None:
    found = weights(
        "diloco:period=5,outer_momentum=0.3",
        [3, 1, 4, 2, 5],
        100,
        hosts=["a", "a", "b", "b", "b"],
        exchange="hier:int8",
        dtype=torch.float32,
    )
    assert all(torch.equal(found[0], vector) for vector in found)
    assert float((found[0] - 1).abs().mean()) < 0.25


def test_what_a_codec_loses_comes_with_a_later_round() -> None:
    """With error feedback the changes of all rounds add up to the whole, but for the last rest."""

    def work(world: Any) -> float:
        text = "diloco:period=1,outer_learning_rate=1,outer_momentum=0"
        rule, replica = make(text, world, "asa:topk,k=0.1", torch.float32)
        rule.start(replica)
        start = replica.parameters[0].clone()
        for _ in range(40):
            # Each worker walks the same way in every step: the mean is 0.15 a step.
            replica.gradients[0].fill_(-1.0 if world.rank else -2.0)
            rule.step(replica, Bring(samples=1))
        return float((replica.parameters[0] - start).mean())

    for walked in run_threads(thread_worlds(2), work):
        assert walked == pytest.approx(40 * 0.15, rel=0.15)


@pytest.mark.parametrize("exchange", ["shm", "asa:int8", "asa:onebit", "asa:powersgd,rank=2"])
def test_resuming_in_mid_period_equals_not_stopping(exchange: str) -> None:
    text = "diloco:period=4"

    def work(world: Any) -> bool:
        rule, replica = make(text, world, exchange, torch.float32)
        rule.start(replica)
        train(rule, replica, range(10), world.rank + 1)
        again, fresh = make(text, world, exchange, torch.float32)
        again.start(fresh)
        fresh.parameters[0].copy_(replica.parameters[0])
        again.load_state_dict(copied(rule.state_dict()))
        for each in ((rule, replica), (again, fresh)):
            train(*each, range(10, 18), world.rank + 1)
        return torch.equal(replica.parameters[0], fresh.parameters[0])

    assert run_threads(thread_worlds(3), work) == [True] * 3


def copied(state: Any) -> Any:
    """As a checkpoint holds it."""
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [copied(value) for value in state]
    return state.clone() if isinstance(state, torch.Tensor) else state


@pytest.mark.parametrize(("before", "now"), [(4, 2), (2, 3), (3, 1)])
@pytest.mark.parametrize("exchange", ["shm", "asa:onebit"])
def test_resuming_with_another_number_of_workers(before: int, now: int, exchange: str) -> None:
    text = "diloco:period=4,outer_momentum=0.5"

    def first(world: Any) -> Any:
        rule, replica = make(text, world, exchange, torch.float32)
        rule.start(replica)
        train(rule, replica, range(10))
        with rule.consensus(replica):
            return copied(rule.state_dict()), replica.parameters[0].clone()

    saved = run_threads(thread_worlds(before), first)

    def second(world: Any) -> Any:
        rule, replica = make(text, world, exchange, torch.float32)
        rule.start(replica)
        replica.parameters[0].copy_(saved[0][1])
        rule.merge_state_dicts([state for state, _ in saved])
        state = rule.state_dict()
        for key in ("old", "velocity"):
            assert torch.equal(state[key][0], saved[0][0][key][0])
        train(rule, replica, range(10, 80))
        return replica.parameters[0].clone()

    ends = run_threads(thread_worlds(now), second)
    for end in ends:
        assert float((end - 1).abs().mean()) < 0.3


def test_nobody_reads_a_change_before_it_is_written() -> None:
    """1. worker 1 writes its change and sums all, 2. worker 0 only now writes its own."""

    def work(world: Any) -> torch.Tensor:
        rule, replica = make("diloco:period=2,outer_learning_rate=1,outer_momentum=0", world)
        rule.start(replica)
        train(rule, replica, range(2))
        outer: Any = rule._outer  # type: ignore[attr-defined]
        take = outer.take_change

        def slowly(*arguments: Any) -> None:
            time.sleep(0.05 * (1 - world.rank))
            take(*arguments)

        outer.take_change = slowly
        train(rule, replica, range(2, 4))
        return replica.parameters[0].clone()

    ends = run_threads(thread_worlds(2), work)
    plain = weights("local-sgd:period=2", [4, 4], 4)
    assert torch.equal(ends[0], ends[1])
    assert torch.allclose(ends[0], plain[0], rtol=1e-14)


def test_the_changes_travel_from_memory_of_the_exchange() -> None:
    def work(world: Any) -> bool:
        rule, replica = make("diloco:period=2", world)
        rule.start(replica)
        (delta,) = rule.exchanged(replica)
        return rule.exchange.route._memory.find(delta) is not None

    assert run_threads(thread_worlds(2), work) == [True, True]
