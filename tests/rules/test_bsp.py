"""BSP against a NumPy reference: both schemes, unequal batches, batch-norm statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.errors import UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.array_replica import ArrayReplica
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring
from arignote.rules.bsp import BSP

RATE, MOMENTUM = 0.05, 0.9


def make(
    scheme: str, world: Any, module: nn.Module, exchange: str = "auto"
) -> tuple[BSP, TorchReplica]:
    _, options = parse_rule(f"bsp:scheme={scheme}")
    way = open_exchange(exchange, world)
    rule = BSP(options, world, way, Recorder())
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM)
    return rule, TorchReplica(module, optimizer, allocate=way.route.allocate)


def gradient(x: Any, rank: int, step: int, samples: int) -> Any:
    """Of mean_k (x . a_k)^2 / 2 over this worker's samples a_k, in NumPy."""
    rows = np.random.default_rng((rank, step)).standard_normal((samples, 3))
    return rows.T @ (rows @ x) / samples


def reference(scheme: str, counts: list[int], steps: int) -> Any:
    """The formulas of rules/bsp.py in NumPy, from x = (1, 1, 1)."""
    workers = len(counts)
    x = [np.ones(3) for _ in range(workers)]
    v = [np.zeros(3) for _ in range(workers)]
    share = np.array(counts) / sum(counts)
    for step in range(steps):
        g = [
            gradient(x[i], i, step, counts[i]) if counts[i] else np.zeros(3) for i in range(workers)
        ]
        if scheme == "gradient":
            mean = sum(s * gi for s, gi in zip(share, g, strict=True))
            g = [mean] * workers
        v = [MOMENTUM * vi + gi for vi, gi in zip(v, g, strict=True)]
        x = [xi - RATE * vi for xi, vi in zip(x, v, strict=True)]
        if scheme == "weights":
            mean = sum(s * xi for s, xi in zip(share, x, strict=True))
            x = [mean.copy() for _ in range(workers)]
    return x[0]


@pytest.mark.parametrize("scheme", ["gradient", "weights"])
@pytest.mark.parametrize("counts", [[4], [4, 4], [5, 2, 1], [3, 0, 4, 1]], ids=str)
def test_against_numpy(scheme: str, counts: list[int]) -> None:
    def work(world: Any) -> Any:
        module = nn.Linear(3, 1, bias=False, dtype=torch.float64)
        nn.init.ones_(module.weight)
        rule, replica = make(scheme, world, module)
        rule.start(replica)
        for step in range(12):
            replica.gradients[0].zero_()
            samples = counts[world.rank]
            if samples:
                x = module.weight.detach().numpy()[0]
                replica.gradients[0].copy_(torch.from_numpy(gradient(x, world.rank, step, samples)))
            result = rule.step(replica, Bring(samples=samples))
            assert result.samples == sum(counts)
        return module.weight.detach().numpy()[0]

    for x in run_threads(thread_worlds(len(counts)), work):
        np.testing.assert_allclose(x, reference(scheme, counts, 12), rtol=1e-12)


def test_both_schemes_follow_one_trajectory_with_equal_batches() -> None:
    """Theano-MPI's conditions: equal starts, momentum linear in the gradient."""
    both = [reference(scheme, [4, 4, 4], 50) for scheme in ("gradient", "weights")]
    np.testing.assert_allclose(both[0], both[1], rtol=1e-10)


def test_mean_loss_is_that_of_all_samples() -> None:
    def work(world: Any) -> float:
        rule, replica = make("gradient", world, nn.Linear(2, 1))
        rule.start(replica)
        replica.zero_grad()
        bring = Bring(samples=[1, 3][world.rank], loss=[8.0, 4.0][world.rank])
        return rule.step(replica, bring).loss

    assert run_threads(thread_worlds(2), work) == [5.0, 5.0]


def test_consensus_averages_batch_norm_statistics_and_puts_them_back() -> None:
    def work(world: Any) -> tuple[float, float]:
        module = nn.BatchNorm1d(2)
        rule, replica = make("gradient", world, module)
        rule.start(replica)
        module.running_mean.fill_(float(world.rank))
        with rule.consensus(replica):
            inside = float(module.running_mean[0])
        return inside, float(module.running_mean[0])

    assert run_threads(thread_worlds(3), work) == [(1.0, 0.0), (1.0, 1.0), (1.0, 2.0)]


def test_seconds_and_bytes_are_booked() -> None:
    def work(world: Any) -> Recorder:
        rule, replica = make("gradient", world, nn.Linear(9, 1), "allreduce")
        rule.start(replica)
        rule.recorder.start()
        for _ in range(3):
            rule.step(replica, Bring(samples=1))
        return rule.recorder

    for recorder in run_threads(thread_worlds(2), work):
        # 2 (p-1)/p * 10 elements * 4 bytes, three times.
        assert recorder.wire_bytes == 3 * 40
        assert all(recorder.seconds[phase] > 0 for phase in ("calc", "comm", "sync"))


def test_model_without_gradients_needs_the_weights_scheme() -> None:
    world = SerialWorld()
    exchange = open_exchange("auto", world)
    replica = ArrayReplica([np.ones(2)], allocate=exchange.route.allocate)
    _, options = parse_rule("bsp")
    with pytest.raises(UserError, match=r"shows no gradients.*use --rule bsp:scheme=weights"):
        BSP(options, world, exchange, Recorder()).start(replica)


def test_weights_need_not_be_whole_numbers() -> None:
    def work(world: Any) -> float:
        module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(module.weight)
        rule, replica = make("gradient", world, module)
        rule.start(replica)
        replica.gradients[0].fill_(1.0)
        rule.step(replica, Bring(samples=[0.3, 0.9][world.rank]))
        return float(module.weight.detach())

    assert run_threads(thread_worlds(2), work) == pytest.approx([-RATE, -RATE])
