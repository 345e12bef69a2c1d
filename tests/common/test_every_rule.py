"""What every rule in the registry must do, over worlds of threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import OPTIONS, parse_rule
from arignote.errors import NotANumberError, UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule

VARIANTS = [
    "bsp:scheme=gradient",
    "bsp:scheme=weights",
    "bsp:sharded=on",
    "bsp:sharded=off",
    "bsp:overlap=on",
]
"""Every rule, in each of its forms."""


def test_no_rule_is_forgotten() -> None:
    assert {variant.partition(":")[0] for variant in VARIANTS} == {e.name for e in RULES}
    assert set(OPTIONS) == {entry.name for entry in RULES}


def make(variant: str, world: Any, dtype: torch.dtype = torch.float64) -> tuple[Rule, TorchReplica]:
    """A rule and a small linear model, whose start differs between workers."""
    name, options = parse_rule(variant)
    # Between two workers auto may choose allreduce, which does not add up slice by slice.
    exchange = open_exchange("shm" if "sharded=on" in variant else "auto", world)
    rule = RULES.load(name)(options, world, exchange, Recorder())
    module = nn.Linear(3, 1, dtype=dtype)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(world.rank)
        module.weight.copy_(torch.randn(1, 3, generator=generator, dtype=dtype))
        module.bias.zero_()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    return rule, TorchReplica(module, optimizer, allocate=exchange.route.allocate)


def data(rank: int, step: int, samples: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * rank + step)
    inputs = torch.randn(samples, 3, generator=generator, dtype=torch.float64)
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.25


def backward(replica: TorchReplica, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    replica.zero_grad()
    loss = (replica.module(inputs) - targets).square().mean()
    loss.backward()
    return float(loss.detach())


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_worker_is_plain_sgd_bit_for_bit(variant: str) -> None:
    rule, replica = make(variant, SerialWorld())
    twin = nn.Linear(3, 1, dtype=torch.float64)
    twin.load_state_dict(replica.module.state_dict())
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.5)
    rule.start(replica)
    for step in range(10):
        inputs, targets = data(0, step)
        loss = backward(replica, inputs, targets)
        rule.step(replica, Bring(samples=4, loss=loss))
        optimizer.zero_grad()
        (twin(inputs) - targets).square().mean().backward()
        optimizer.step()
    rule.finish(replica)
    assert torch.equal(replica.module.weight, twin.weight)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_quadratic_reaches_its_optimum(variant: str, workers: int) -> None:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(variant, world)
        rule.start(replica)
        for step in range(150):
            loss = backward(replica, *data(world.rank, step))
            rule.step(replica, Bring(samples=4, loss=loss))
        rule.finish(replica)
        with rule.consensus(replica):
            return replica.parameters[0].clone()

    for vector in run_threads(thread_worlds(workers), work):
        wanted = torch.tensor([1.0, -2.0, 0.5, 0.25], dtype=torch.float64)
        assert torch.allclose(vector, wanted, atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_workers_agree_on_what_none_of_them_would_find_alone(variant: str) -> None:
    # Each worker's own optimum is x = 10 * rank; the optimum of all is their mean.
    def work(world: Any) -> float:
        rule, replica = make(variant, world)
        rule.start(replica)
        for _ in range(300):
            replica.gradients[0].copy_(0.5 * (replica.parameters[0] - 10.0 * world.rank))
            rule.step(replica, Bring(samples=1))
        with rule.consensus(replica):
            return float(replica.parameters[0].mean())

    assert run_threads(thread_worlds(3), work) == pytest.approx([10.0] * 3, abs=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_start_gives_everyone_the_weights_of_rank_0(variant: str) -> None:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(variant, world)
        rule.start(replica)
        return replica.parameters[0].clone()

    first, *others = run_threads(thread_worlds(3), work)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_wish_to_stop_reaches_everyone_at_the_same_step(variant: str) -> None:
    def work(world: Any) -> list[bool]:
        rule, replica = make(variant, world)
        rule.start(replica)
        stops = []
        for step in range(4):
            backward(replica, *data(world.rank, step))
            bring = Bring(samples=4, stop=world.rank == 1 and step == 2)
            stops.append(rule.step(replica, bring).stop)
        return stops

    assert run_threads(thread_worlds(3), work) == [[False, False, True, False]] * 3


@pytest.mark.parametrize("variant", VARIANTS)
def test_not_a_number_names_worker_and_step_and_changes_nothing(variant: str) -> None:
    def work(world: Any) -> tuple[bool, str]:
        rule, replica = make(variant, world)
        rule.start(replica)
        for step in range(2):
            backward(replica, *data(world.rank, step))
            rule.step(replica, Bring(samples=4, loss=0.5))
        before = replica.parameters[0].clone()
        backward(replica, *data(world.rank, 2))
        loss = float("nan") if world.rank == 2 else 0.5
        with pytest.raises(NotANumberError) as caught:
            rule.step(replica, Bring(samples=4, loss=loss))
        return torch.equal(before, replica.parameters[0]), str(caught.value)

    for unchanged, message in run_threads(thread_worlds(3), work):
        assert unchanged
        assert message.startswith("the loss of worker 2 is not a number at step 3:")


@pytest.mark.parametrize("variant", VARIANTS)
def test_not_a_number_may_go_on(variant: str) -> None:
    rule, replica = make(variant, SerialWorld())
    rule.stop_on_nan = False
    rule.start(replica)
    backward(replica, *data(0, 0))
    assert rule.step(replica, Bring(samples=4, loss=float("nan"))).samples == 4


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_worker_that_ends_its_loop_early_is_told_of(variant: str) -> None:
    def work(world: Any) -> str:
        rule, replica = make(variant, world)
        rule.start(replica)
        try:
            for step in range(2 if world.rank == 0 else 3):
                backward(replica, *data(world.rank, step))
                rule.step(replica, Bring(samples=4))
            rule.finish(replica)
        except UserError as error:
            return str(error)
        return "nothing"

    for message in run_threads(thread_worlds(3), work):
        assert message.startswith(
            "1 of 3 workers ended their loop while others are at step 3: give every worker the "
            "same number of batches"
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_save_and_resume_equals_going_on(variant: str) -> None:
    def run(world: Any, stop_after: int | None) -> torch.Tensor:
        rule, replica = make(variant, world)
        rule.start(replica)
        for step in range(8):
            if step == stop_after:
                kept = (rule.state_dict(), replica.optimizer_state(), replica.named_tensors())
                saved = {name: tensor.clone() for name, tensor in kept[2].items()}
                rule, fresh = make(variant, world)
                rule.start(fresh)
                fresh.load_named_tensors(saved)
                fresh.load_optimizer_state(kept[1])
                rule.load_state_dict(kept[0])
                replica = fresh
            loss = backward(replica, *data(world.rank, step))
            rule.step(replica, Bring(samples=4, loss=loss))
        return replica.parameters[0].clone()

    straight = run_threads(thread_worlds(3), lambda world: run(world, None))
    resumed = run_threads(thread_worlds(3), lambda world: run(world, 5))
    assert all(torch.equal(a, b) for a, b in zip(straight, resumed, strict=True))
