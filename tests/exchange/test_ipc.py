"""ipc: its arithmetic and its steps, on CPU memory that the threads of one process share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.comm.threads import ThreadWorld, run_threads, thread_worlds
from arignote.config.exchange_options import CodecOptions
from arignote.errors import UserError
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange
from arignote.exchange.routes import gpu, ipc
from arignote.exchange.routes.ipc import IPC, mean_into_
from arignote.exchange.routes.shm import SharedMemory

CPU = torch.device("cpu")


class OnCPU(IPC):
    """The same steps where there is nothing to synchronise."""

    devices = ("cpu",)

    def _check(self) -> None:
        pass

    def _settle(self, device: torch.device) -> None:
        pass


def run(workers: int, work: Callable[[World], Any]) -> list[Any]:
    return run_threads(thread_worlds(workers), work)


def noise(elements: int, seed: int) -> torch.Tensor:
    return torch.randn(elements, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("elements", [0, 1, 9, 10, 11, 35])
@pytest.mark.parametrize("workers", [2, 3, 5])
def test_mean_into(elements: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "_BLOCK", 10)
    parts = [noise(elements, rank) for rank in range(workers)]
    expected = parts[0].clone()
    for part in parts[1:]:
        expected += part
    expected *= 1 / workers
    kept = [part.clone() for part in parts]
    other = torch.zeros(elements)
    mean_into_(parts, [other], CPU)
    assert torch.equal(other, expected)
    assert all(torch.equal(part, old) for part, old in zip(parts, kept, strict=True))
    mean_into_(parts, parts, CPU)
    assert all(torch.equal(part, expected) for part in parts)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_the_bits_of_shm(workers: int) -> None:
    def work(world: World) -> None:
        both = [Exchange(route(world), FP32(CodecOptions())) for route in (OnCPU, SharedMemory)]
        for elements in (0, 1, 7, 4096, 100_003):
            vectors = [e.route.allocate(elements, torch.float32, CPU) for e in both]
            assert torch.equal(vectors[0], torch.zeros(elements))
            for turn in range(2):
                for exchange, vector in zip(both, vectors, strict=True):
                    vector.copy_(noise(elements, world.rank + turn))
                    world.meet([], "a test")
                    weight = 0.5 + world.rank / 3
                    assert exchange.mean_(vector, weight=weight, what="a test") == 0
                assert torch.equal(*vectors)
        both[0].route.close()

    run(workers, work)


def test_parts_and_memory_from_elsewhere() -> None:
    def work(world: World) -> None:
        exchange = Exchange(OnCPU(world), FP32(CodecOptions()))
        vector = exchange.route.allocate(5000, torch.float32, CPU)
        plain = torch.empty(5000)
        expected = sum(noise(5000, rank) for rank in range(3)) / 3
        for _ in range(2):
            vector.copy_(noise(5000, world.rank))
            plain.copy_(vector)
            for part in (slice(0, 11), slice(11, 5000)):
                exchange.mean_(vector[part], what="a test")
            exchange.mean_(plain, what="a test")
            assert torch.equal(vector, plain)
            assert torch.allclose(vector, expected, atol=1e-6)

    run(3, work)


@pytest.mark.parametrize("workers", [2, 3])
def test_shards(workers: int) -> None:
    def work(world: World) -> None:
        route = OnCPU(world)
        vector = route.allocate(9001, torch.float32, CPU)
        expected = sum(noise(9001, rank) for rank in range(workers)) / workers
        for _ in range(2):
            vector.copy_(noise(9001, world.rank))
            own = route.own_slice(9001)
            assert route.reduce_scatter_(vector, "a test") == 0
            vector[own] *= 2
            assert route.all_gather_(vector, "a test") == 0
            assert torch.allclose(vector, 2 * expected, atol=1e-5)
            world.meet([], "a test")

    run(workers, work)


def test_a_twin_finds_the_same_memory() -> None:
    def work(world: World) -> None:
        route = OnCPU(world)
        vector = route.allocate(100, torch.float32, CPU)
        vector.fill_(world.rank)
        twin = route.twin(world.split(0))
        assert isinstance(twin, OnCPU)
        Exchange(twin, FP32(CodecOptions())).mean_(vector, what="a test")
        assert not twin._staging
        assert vector.tolist() == [0.5] * 100

    run(2, work)


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    def hosts(world: World) -> None:
        message = (
            r"ipc is memory of the GPUs of one host, and the workers are on a, b: use nccl:fp32"
        )
        with pytest.raises(UserError, match=message):
            IPC(world)

    run_threads(thread_worlds(2, hosts=["a", "b"]), hosts)

    def no_cuda(world: World) -> None:
        message = (
            r"ipc needs every worker on a GPU, and worker 0 .*without CUDA.*; on CPUs use shm:fp32"
        )
        with pytest.raises(UserError, match=message):
            IPC(world)

    monkeypatch.setattr(torch.version, "cuda", None)
    run(2, no_cuda)

    def on_cpu(world: World) -> None:
        message = r"ipc needs every worker on a GPU, and worker 0 .*: its vector is on cpu"
        monkeypatch.setattr(OnCPU, "devices", ("cuda",))
        route = OnCPU(world)
        with pytest.raises(UserError, match=message):
            route.allocate(7, torch.float32, CPU)
        with pytest.raises(UserError, match=message):
            route.mean_(torch.ones(7), FP32(CodecOptions()), None, "a test")  # type: ignore[arg-type]

    run(2, on_cpu)


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Workers as if in processes of their own, whose loans are looked up in this table."""
    gather = ThreadWorld.gather

    def gather_apart(self: ThreadWorld, item: Any, what: str) -> list[Any]:
        items = gather(self, item, what)
        return list(range(self.size)) if item == gpu._PROCESS else items

    table: dict[str, torch.Tensor] = {}

    def lend(vector: torch.Tensor) -> dict[str, Any]:
        table[str(len(table))] = vector
        return {"number": str(len(table) - 1)}

    monkeypatch.setattr(ThreadWorld, "gather", gather_apart)
    monkeypatch.setattr(accelerator, "lend", lend)
    return table


def test_memory_of_other_processes(
    apart: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def borrow(loan: dict[str, Any], like: torch.Tensor) -> torch.Tensor:
        opened.append(loan["number"])
        return apart[loan["number"]]

    monkeypatch.setattr(accelerator, "borrow", borrow)

    def work(world: World) -> None:
        route = OnCPU(world)
        vector = route.allocate(100, torch.float32, CPU)
        vector.fill_(world.rank)
        Exchange(route, FP32(CodecOptions())).mean_(vector, what="a test")
        assert vector.tolist() == [1.0] * 100

    run(3, work)
    # Each loan is opened once: that is what torch counts.
    assert sorted(opened) == sorted(apart)
    assert len(opened) == 6


@pytest.mark.usefixtures("apart")
def test_memory_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(loan: dict[str, Any], like: torch.Tensor) -> torch.Tensor:
        raise LookupError("GPU 5 is hidden from it")

    monkeypatch.setattr(accelerator, "borrow", hidden)

    def work(world: World) -> None:
        message = (
            r"worker 0 cannot open the memory of worker 1's GPU \(GPU 5 is hidden from it\): let "
            r"every worker see all GPUs of the host \(CUDA_VISIBLE_DEVICES\), or use allreduce:fp32"
        )
        with pytest.raises(UserError, match=message):
            OnCPU(world).allocate(7, torch.float32, CPU)

    run(2, work)
