"""Vectors by way of host memory: the bits of the direct way, by chunks, and never too early."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arignote.accelerator import SideStream
from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.exchange import exchange as exchange_module
from arignote.exchange import staging
from arignote.exchange.open import open_exchange
from arignote.exchange.staging import Staging

CPU = torch.device("cpu")


class LateStream(SideStream):
    """A stream as slow as may be: it copies only when somebody waits for it."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    def copy_(self, target: torch.Tensor, source: torch.Tensor) -> Any:
        self.pending.append((target, source))
        return LateMark(self, len(self.pending))

    def run(self, until: int) -> None:
        for number in range(until):
            target, source = self.pending[number]
            target.copy_(source)
            self.pending[number] = (target, target)

    def join(self) -> None:
        self.run(len(self.pending))
        self.pending = []


class LateMark:
    def __init__(self, stream: LateStream, number: int) -> None:
        self.stream, self.number = stream, number

    def wait(self) -> None:
        self.stream.run(self.number)


def noise(elements: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(elements, generator=torch.Generator().manual_seed(seed)).to(dtype)


def rounds(text: str, hosts: str, elements: int, dtype: torch.dtype, *, staged: bool) -> list[Any]:
    """Every worker's vector after three rounds, and the elements of each call of the route."""

    def work(world: World) -> tuple[torch.Tensor, list[int]]:
        exchange = open_exchange(text, world)
        vector = exchange.route.allocate(elements, dtype, CPU)
        exchange.prepare([vector], [[vector.shape]])
        if staged:
            exchange.route.devices = ()  # type: ignore[misc]
        sizes: list[int] = []
        mean_ = exchange.route.mean_

        def counted(part: torch.Tensor, *rest: Any) -> int:
            sizes.append(part.numel())
            return mean_(part, *rest)

        exchange.route.mean_ = counted  # type: ignore[method-assign]
        for turn in range(3):
            vector.copy_(noise(elements, 10 * turn + world.rank, dtype))
            world.meet([], "a test")
            exchange.mean_(vector, weight=0.5 + world.rank / 3, what="a test")
        result = vector.clone()
        world.meet([], "a test")
        exchange.close()
        return result, sizes

    return run_threads(thread_worlds(len(hosts), hosts=list(hosts)), work)


@pytest.fixture(autouse=True)
def small_and_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "CHUNK", 1500)
    monkeypatch.setattr(
        exchange_module, "Staging", lambda device: Staging(device, streams=LateStream)
    )


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("shm:fp32", "aa"),
        ("shm:fp32", "aaa"),
        ("asa:fp32", "ab"),
        ("asa:fp32", "aaa"),
        ("hier:fp32", "aabbb"),
        ("allreduce:fp32", "aa"),
    ],
)
@pytest.mark.parametrize("elements", [1, 1500, 6001])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunks_have_the_bits_of_the_whole(
    text: str, hosts: str, elements: int, dtype: torch.dtype
) -> None:
    direct = rounds(text, hosts, elements, dtype, staged=False)
    by_host = rounds(text, hosts, elements, dtype, staged=True)
    chunks = [1500] * (elements // 1500) + [elements % 1500] * (elements % 1500 > 0)
    for (expected, _), (found, sizes) in zip(direct, by_host, strict=True):
        assert torch.equal(found, expected)
        assert sizes == 3 * chunks


@pytest.mark.parametrize(
    ("text", "hosts"),
    # MPI may add in another order for another length; a codec's slices would be others.
    [("allreduce:fp32", "aaa"), ("asa:fp16", "aa"), ("asa:onebit", "aaa"), ("pair:fp32", "aaa")],
)
def test_what_may_not_be_cut_travels_whole(text: str, hosts: str) -> None:
    direct = rounds(text, hosts, 6001, torch.float32, staged=False)
    by_host = rounds(text, hosts, 6001, torch.float32, staged=True)
    for (expected, _), (found, sizes) in zip(direct, by_host, strict=True):
        assert torch.equal(found, expected)
        assert sizes == [6001] * 3


def test_a_chunk_is_back_before_what_comes_next() -> None:
    """And is exchanged before the last one has come: that is what chunks are for."""
    down, up = LateStream(CPU), LateStream(CPU)
    streams = iter([down, up])
    stage = Staging(CPU, streams=lambda device: next(streams))
    vector = noise(4000, 1)
    expected = 2 * vector
    waiting: list[int] = []

    def double(chunk: torch.Tensor, part: slice) -> int:
        waiting.append(sum(target is not source for target, source in down.pending))
        chunk.mul_(2)
        return part.stop - part.start

    assert stage.through(vector, torch.float32, double, cuts=True) == 4000
    assert torch.equal(vector, expected)
    assert waiting == [2, 1, 0]
    assert up.pending == []


def test_memory_is_kept_from_round_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    host_memory: Callable[..., torch.Tensor] = staging.accelerator.host_memory
    monkeypatch.setattr(
        staging.accelerator,
        "host_memory",
        lambda elements, *rest: made.append(elements) or host_memory(elements, *rest),
    )
    rounds("asa:fp32", "aa", 4000, torch.float32, staged=True)
    assert made == [4000, 4000]
