"""Parts that follow the workers' speed: the same update, at other times."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest

from arignote.comm.threads import run_threads, thread_worlds
from arignote.data.sharding import shared_slice
from arignote.trainer import balance
from arignote.trainer.balance import Balance, new_shares
from arignote.trainer.torch_task import TorchTask


@pytest.mark.parametrize("count", [0, 1, 2, 7, 64, 1001])
@pytest.mark.parametrize(
    "shares", [[1.0], [0.5, 0.5], [0.1, 0.9], [1 / 3] * 3, [0.05, 0.6, 0.2, 0.15]]
)
def test_slices_hold_everything_once(count: int, shares: list[float]) -> None:
    slices = [shared_slice(count, rank=rank, shares=shares) for rank in range(len(shares))]
    assert (slices[0].start, slices[-1].stop) == (0, count)
    assert all(a.stop == b.start for a, b in pairwise(slices))
    for part, share in zip(slices, shares, strict=True):
        assert abs(part.stop - part.start - share * count) <= 1


def test_shares_by_hand() -> None:
    assert new_shares([0.5, 0.5], [300.0, 100.0]) == [0.625, 0.375]
    assert new_shares([0.5, 0.5], [0.0, 0.0]) == [0.5, 0.5]
    # Of no speed: as the mean of the others. Never below a quarter of an equal share.
    assert new_shares([0.5, 0.5], [0.0, 100.0]) == [0.5, 0.5]
    shares = [0.5, 0.5]
    for _ in range(20):
        shares = new_shares(shares, [1000.0, 1.0])
    assert 0.115 < shares[1] < 0.13


def test_all_workers_come_to_the_same_shares() -> None:
    def work(world: Any) -> list[float]:
        balanced = Balance(world)
        for _ in range(balance._EVERY_STEPS * 6):
            balanced.note(8, 0.1 * (1 + world.rank))
        return balanced.shares

    results = run_threads(thread_worlds(3), work)
    assert results == [results[0]] * 3
    assert results[0] == pytest.approx([6 / 11, 3 / 11, 2 / 11], abs=0.01)


def test_a_slow_worker_gets_less_and_the_weights_are_the_same(
    train: Any, relative_difference: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "_EVERY_STEPS", 3)
    sizes: dict[int, list[int]] = {0: [], 1: []}
    forward = TorchTask._forward_backward

    def slow(self: TorchTask, batch: Any) -> float:
        sizes[self.world.rank].append(len(batch.inputs))
        time.sleep(0.0002 * len(batch.inputs) * (1 + 3 * self.world.rank))
        return forward(self, batch)

    settings = {"train.epochs": 2, "train.batch_size": 32, "train.precision": "fp64"}
    alone = train(1, settings | {"train.batch_size": 64}, folder="alone")
    monkeypatch.setattr(TorchTask, "_forward_backward", slow)
    result = train(2, settings | {"train.balance": True}, folder="balanced")
    assert result.summary["samples"] == alone.summary["samples"]
    assert sizes[0][0] == sizes[1][0] == 32
    assert sizes[0][-2] > 1.5 * sizes[1][-2]
    assert all(a + b == 64 for a, b in zip(sizes[0][:5], sizes[1][:5], strict=True))
    difference = relative_difference(
        alone.trainer.task.replica.named_tensors(), result.trainer.task.replica.named_tensors()
    )
    assert difference < 1e-9
