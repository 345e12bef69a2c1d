"""Process groups of torch.distributed from our own world, by gloo; what nccl refuses."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.exchange_options import CodecOptions
from arignote.errors import LostWorkerError, UserError
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange
from arignote.exchange.routes import nccl, rendezvous
from arignote.exchange.routes.nccl import NCCL
from arignote.exchange.routes.process_group import Gloo, dist
from arignote.exchange.routes.rendezvous import addresses, interface_of, open_store

CPU = torch.device("cpu")


class FP16(FP32):
    """Only its name counts here: the library casts and sums."""

    name = "fp16"


class BF16(FP32):
    name = "bf16"


class OnCPU(NCCL):
    """NCCL's own steps, on CPUs."""

    devices = ("cpu",)


def run(hosts: str, work: Callable[[World], Any]) -> list[Any]:
    return run_threads(thread_worlds(len(hosts), hosts=list(hosts)), work)


def noise(elements: int, seed: int) -> torch.Tensor:
    return torch.randn(elements, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def fake_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has CUDA and NCCL, as far as the routes ask; gloo does NCCL's work."""
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: True)
    monkeypatch.setattr(dist, "ProcessGroupNCCL", dist.ProcessGroupGloo, raising=False)
    count = iter(range(100))
    monkeypatch.setattr(accelerator, "identity", lambda device: f"GPU-{next(count)}")


@pytest.mark.parametrize("hosts", ["a", "aa", "aaa", "ab", "aabb"])
def test_mean(hosts: str) -> None:
    workers = len(hosts)

    def work(world: World) -> None:
        exchange = Exchange(Gloo(world), FP32(CodecOptions()))
        for elements in (0, 1, 7, 4096, 300_007):
            vector = exchange.route.allocate(elements, torch.float32, CPU)
            assert torch.equal(vector, torch.zeros(elements))
            for turn in range(2):
                vector.copy_(noise(elements, world.rank + turn))
                sent = exchange.mean_(vector, what="a test")
                assert sent == 2 * (workers - 1) * 4 * elements // workers
                expected = sum(noise(elements, rank + turn) for rank in range(workers)) / workers
                assert torch.allclose(vector, expected, atol=1e-6)
        assert not dist.is_initialized()
        exchange.route.close()
        exchange.route.close()

    run(hosts, work)


@pytest.mark.parametrize(("codec", "bound"), [(FP16, 2e-3), (BF16, 2e-2)])
def test_casts(codec: type[FP32], bound: float) -> None:
    def work(world: World) -> torch.Tensor:
        exchange = Exchange(Gloo(world), codec(CodecOptions()))
        vector = noise(1001, world.rank)
        # A sum of float16 would be infinite here, their mean is not.
        vector[0] = 60_000.0
        assert exchange.mean_(vector, what="a test") == 2 * 2 * 2 * 1001 // 3
        exchange.route.close()
        return vector

    for vector in run("aaa", work):
        assert vector[0] == pytest.approx(60_000, rel=bound)
        expected = sum(noise(1001, rank) for rank in range(3)) / 3
        assert (vector - expected)[1:].abs().max() < 4 * bound


@pytest.mark.parametrize("elements", [1, 7, 3000, 3001])
def test_shards(elements: int) -> None:
    def work(world: World) -> None:
        route = Gloo(world)
        vector = route.allocate(elements, torch.float32, CPU)
        vector.copy_(noise(elements, world.rank))
        own = route.own_slice(elements)
        sent = route.reduce_scatter_(vector, "a test")
        expected = sum(noise(elements, rank) for rank in range(3)) / 3
        assert torch.allclose(vector[own], expected[own], atol=1e-6)
        sent += route.all_gather_(vector, "a test")
        assert torch.allclose(vector, expected, atol=1e-6)
        assert sent == 2 * 2 * 4 * -(-elements // 3)
        slices = world.gather([own.start, own.stop], "a test")
        assert [start for start, _ in slices] == [0, *(stop for _, stop in slices[:-1])]
        assert slices[-1][1] == elements
        route.close()

    run("aaa", work)


def test_a_worker_that_does_not_come() -> None:
    expired = threading.Event()

    def work(world: World) -> None:
        route = Gloo(world)
        vector = route.allocate(7, torch.float32, CPU)
        if world.rank == 1:
            expired.wait(20)
            return
        world.timeout_seconds = 0.2
        with pytest.raises(LostWorkerError, match=r"part in a test within 0.2 s; gloo says: "):
            Exchange(route, FP32(CodecOptions())).mean_(vector, what="a test")
        expired.set()

    run("aa", work)


def test_a_group_that_cannot_start() -> None:
    class Broken(Gloo):
        def _open(self, store: Any, address: str, device: torch.device) -> Any:
            raise RuntimeError("no device\nmore lines")

    def work(world: World) -> None:
        with pytest.raises(
            LostWorkerError, match=r"part in its start within .*gloo says: no device$"
        ):
            Broken(world).allocate(7, torch.float32, CPU)

    run("aa", work)


def test_the_store_goes_away() -> None:
    def work(world: World) -> None:
        route = Gloo(world)
        route.allocate(7, torch.float32, CPU)
        port = route._store.port
        socket.create_connection(("127.0.0.1", port), 1).close()
        route.close()
        world.meet([], "a test")
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", port), 1)

    run("aa", work)


def test_addresses_between_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(world: World) -> str:
        store, own = open_store(world, "a test")
        store.set(str(world.rank), "here")
        assert [store.get(str(rank)) for rank in range(3)] == [b"here"] * 3
        world.meet([], "a test")
        return own

    # The first one answers nowhere.
    monkeypatch.setattr(rendezvous, "addresses", lambda: ["255.255.255.255", "127.0.0.1"])
    assert run("abb", work) == ["127.0.0.1"] * 3
    monkeypatch.setattr(rendezvous, "addresses", lambda: ["255.255.255.255"])
    refusal = (
        r"a test cannot start: worker 1 \(host b, pid \d+\) reaches worker 0 at none of its "
        r"addresses \(255.255.255.255, port \d+\): open the firewall .*, or use --exchange asa:fp32"
    )

    def refused(world: World) -> None:
        with pytest.raises(UserError, match=refusal):
            open_store(world, "a test")

    run("abb", refused)


def test_own_addresses_are_not_the_loopback() -> None:
    for address in addresses():
        assert not address.startswith(("127.", "::1", "fe80:"))


def test_nccl_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, hosts: str) -> None:
        def work(world: World) -> None:
            with pytest.raises(UserError, match=message):
                NCCL(world)

        run(hosts, work)

    monkeypatch.setattr(torch.version, "cuda", None)
    needs = r"nccl needs every worker on a GPU, and worker 0 \(host a, pid \d+\) has none: "
    refused(needs + r"its torch .* is built without CUDA and ROCm: .*; on CPUs use shm:fp32", "aa")
    refused(needs + r"its torch .* is built without CUDA and ROCm: .*; on CPUs use asa:fp32", "ab")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(needs + r"its torch .* is built for CUDA 12.8, and no .*; on CPUs use shm:fp32", "aa")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    refused(r"the torch of worker 0 .* is built without NCCL: use allreduce:fp32", "aa")


@pytest.mark.usefixtures("fake_nccl")
def test_nccl_refuses_vectors_on_the_cpu() -> None:
    message = (
        r"nccl needs every worker on a GPU, and worker 0 .*: its vector is on cpu; .* shm:fp32"
    )

    def work(world: World) -> None:
        route = NCCL(world)
        with pytest.raises(UserError, match=message):
            route.allocate(7, torch.float32, CPU)
        with pytest.raises(UserError, match=message):
            Exchange(route, FP32(CodecOptions())).mean_(torch.ones(7), what="a test")

    run("aa", work)


@pytest.mark.usefixtures("fake_nccl")
def test_nccl_refuses_two_workers_on_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "identity", lambda device: "GPU-1")
    message = r"two workers on one GPU, and workers 1 and 2 share GPU-1 of host b: use ipc:fp32 or"

    def work(world: World) -> None:
        with pytest.raises(UserError, match=message):
            OnCPU(world).allocate(7, torch.float32, CPU)

    run("abb", work)


@pytest.mark.usefixtures("fake_nccl")
@pytest.mark.parametrize("hosts", ["aa", "aba"])
def test_nccl_steps(hosts: str) -> None:
    def work(world: World) -> torch.Tensor:
        exchange = Exchange(OnCPU(world), FP32(CodecOptions()))
        vector = exchange.route.allocate(1001, torch.float32, CPU)
        vector.copy_(noise(1001, world.rank))
        exchange.mean_(vector, weight=1.0, what="a test")
        exchange.route.close()
        return vector

    expected = sum(noise(1001, rank) for rank in range(len(hosts))) / len(hosts)
    for vector in run(hosts, work):
        assert torch.allclose(vector, expected, atol=1e-6)


@pytest.mark.usefixtures("fake_nccl")
@pytest.mark.parametrize(
    ("hosts", "of_the_user", "told"),
    [("ab", None, "=net7"), ("aa", None, None), ("ab", "ib0", "ib0")],
)
def test_nccl_begins_where_the_hosts_reach_each_other(
    monkeypatch: pytest.MonkeyPatch, hosts: str, of_the_user: str | None, told: str | None
) -> None:
    name, heard = "NCCL_SOCKET_IFNAME", []
    monkeypatch.delenv(name, raising=False)
    if of_the_user:
        monkeypatch.setenv(name, of_the_user)

    def group(*arguments: Any) -> Any:
        heard.append(os.environ.get(name))
        return dist.ProcessGroupGloo(*arguments)

    monkeypatch.setattr(dist, "ProcessGroupNCCL", group)
    monkeypatch.setattr(nccl, "interface_of", lambda address: "net7")

    def work(world: World) -> None:
        route = OnCPU(world)
        route.allocate(7, torch.float32, CPU)
        route.close()

    run(hosts, work)
    assert heard == [told, told]
    assert os.environ.get(name) == of_the_user


def test_the_interface_of_an_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert all(interface_of(address) for address in addresses())
    assert interface_of("192.0.2.1") == ""


@pytest.mark.usefixtures("fake_nccl")
def test_nccl_waits_with_a_deadline() -> None:
    class Never:
        def is_completed(self) -> bool:
            return False

    (world,) = thread_worlds(1, timeout_seconds=0.1)
    with pytest.raises(LostWorkerError, match=r"part in a test within 0.1 s, as far as nccl knows"):
        OnCPU(world)._finish(Never(), "a test")
