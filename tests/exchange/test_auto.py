"""auto: candidates by placement, one choice for all workers, kept by a resumed run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from arignote.comm.base import DeviceBuffers
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import UserError
from arignote.exchange.auto import AutoExchange, candidates
from arignote.exchange.open import open_exchange
from arignote.exchange.routes import allreduce
from arignote.exchange.routes.asa import ASA
from arignote.exchange.routes.hier import Hierarchical
from arignote.exchange.routes.shm import SharedMemory
from arignote.registry import ROUTES

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("hosts", "names"),
    [
        (["a", "a"], ["shm", "asa", "allreduce"]),
        (["a", "a", "a"], ["shm", "asa"]),
        (["a", "a", "a", "a"], ["shm", "asa"]),
        (["a", "b"], ["asa", "allreduce"]),
        (["a", "b", "c"], ["asa"]),
        (["a", "a", "b"], ["hier"]),
        (["a", "b", "a", "b"], ["hier"]),
    ],
)
def test_candidates_by_placement(hosts: list[str], names: list[str]) -> None:
    worlds = thread_worlds(len(hosts), hosts=hosts)
    assert [candidates(world, CPU) for world in worlds] == [names] * len(hosts)
    assert all(name in ROUTES for name in names)
    # Workers on GPUs have other ways.
    assert candidates(worlds[0], torch.device("cuda:0"))[0] == "nccl"


def test_what_is_not_for_rounds_is_not_timed() -> None:
    def work(world: Any) -> tuple[str, dict[str, Any]]:
        exchange = open_exchange("auto", world)
        vector = exchange.route.allocate(3000, torch.float32, CPU)
        exchange.prepare([vector], [[vector.shape]], rounds=False)
        name = exchange.name
        exchange.close()
        return name, exchange.report

    assert run_threads(thread_worlds(3), work) == [("shm:fp32", {})] * 3


def prepare(world: Any, elements: Sequence[int] = (3000, 5001)) -> AutoExchange:
    """An exchange that has chosen, over vectors of these sizes; they must be as before."""
    exchange = open_exchange("auto", world)
    assert isinstance(exchange, AutoExchange)
    generator = torch.Generator().manual_seed(world.rank)
    vectors = []
    for count in elements:
        vector = exchange.route.allocate(count, torch.float32, CPU)
        vector.copy_(torch.randn(count, generator=generator))
        vectors.append(vector)
    before = [vector.clone() for vector in vectors]
    exchange.prepare(vectors, [[vector.shape] for vector in vectors])
    for vector, kept in zip(vectors, before, strict=True):
        assert torch.equal(vector, kept)
    # It works: on memory of the first candidate, whichever was chosen.
    for vector, kept in zip(vectors, before, strict=True):
        world.meet([], "a test")
        exchange.mean_(vector, what="a test")
        everybodys = torch.tensor(world.gather(kept.tolist(), "a test"))
        assert torch.allclose(vector, everybodys.mean(0), atol=1e-6)
    exchange.close()
    return exchange


@pytest.mark.parametrize(
    "hosts", [["a"] * 2, ["a"] * 3, ["a", "b"], ["a", "b", "c"], ["a", "a", "b"]], ids="-".join
)
def test_all_workers_choose_the_same(hosts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arignote.exchange.auto._SECONDS", 0.05)
    reports = [e.report for e in run_threads(thread_worlds(len(hosts), hosts=hosts), prepare)]
    first = reports[0]
    assert all(report == first for report in reports)
    assert first.keys() == {"chosen", "elements", "median_seconds", "refused"}
    seconds = first["median_seconds"]
    assert list(seconds) == candidates(thread_worlds(len(hosts), hosts=hosts)[0], CPU)
    assert all(value > 0 for value in seconds.values())
    assert first["chosen"] == min(seconds, key=seconds.get) + ":fp32"
    assert first["elements"] == 5001
    assert first["refused"] == {}


@pytest.mark.parametrize("name", ["shm", "asa", "allreduce"])
def test_the_fastest_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def times(self: Any, vector: torch.Tensor, world: Any) -> dict[str, float]:
        assert vector.numel() == 5001
        return {other: 1.0 + (other != name) for other in ("shm", "asa", "allreduce")}

    monkeypatch.setattr(AutoExchange, "_times", times)
    for exchange in run_threads(thread_worlds(2), prepare):
        assert exchange.name == exchange.report["chosen"] == f"{name}:fp32"
        assert exchange.report["median_seconds"][name] == 1.0


def test_all_candidates_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(world: Any, name: str) -> torch.Tensor:
        exchange = open_exchange("auto", world)
        vector = exchange.route.allocate(4001, torch.float32, CPU)
        vector.copy_(torch.randn(4001, generator=torch.Generator().manual_seed(world.rank)))
        monkeypatch.setattr(
            AutoExchange, "_times", lambda self, *_: {r.name: r.name != name for r in self._routes}
        )
        exchange.prepare([vector], [[vector.shape]])
        world.meet([], "a test")
        exchange.mean_(vector, what="a test")
        assert exchange.route.name == name
        return vector.clone()

    for workers in (2, 3):
        results = [
            run_threads(thread_worlds(workers), lambda world, name=name: work(world, name))
            for name in candidates(thread_worlds(workers)[0], CPU)
        ]
        for result in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


def never(*arguments: Any) -> Any:
    raise AssertionError("nothing should be timed here")


def test_nothing_is_timed_where_there_is_nothing_to_choose_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AutoExchange, "_times", never)
    assert prepare(SerialWorld()).report == {}
    for elements in ([], [0]):
        for exchange in run_threads(
            thread_worlds(2), lambda world, elements=elements: prepare(world, elements)
        ):
            assert exchange.report == {}


def refuse(monkeypatch: pytest.MonkeyPatch, route: type) -> None:
    def refused(self: Any, *arguments: Any) -> None:
        raise UserError(f"{route.name} is not for today")

    monkeypatch.setattr(route, "__init__", refused)


@pytest.mark.parametrize(
    ("route", "chosen"), [(SharedMemory, {"asa", "allreduce"}), (ASA, {"shm", "allreduce"})]
)
def test_a_candidate_that_cannot_serve_is_reported(
    route: type, chosen: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, route)
    for exchange in run_threads(thread_worlds(2), prepare):
        report = exchange.report
        assert report["refused"] == {route.name: f"{route.name} is not for today"}
        assert set(report["median_seconds"]) == chosen
        assert report["chosen"].removesuffix(":fp32") in chosen


def test_memory_that_cannot_be_shared_is_found_out_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(self: Any, *arguments: Any) -> None:
        raise UserError("worker 1 cannot share memory with worker 0")

    monkeypatch.setattr(SharedMemory, "allocate", refused)
    for exchange in run_threads(thread_worlds(3), prepare):
        assert exchange.report["refused"] == {"shm": "worker 1 cannot share memory with worker 0"}
        assert exchange.name == "asa:fp32"


def test_asa_serves_where_no_candidate_does(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, Hierarchical)
    for exchange in run_threads(thread_worlds(3, hosts=["a", "a", "b"]), prepare):
        assert exchange.report["refused"] == {"hier": "hier is not for today"}
        assert exchange.name == "asa:fp32"


SMALL = {
    "run.data": "synthetic:1x8x8,10,train=120,validation=10",
    "train.epochs": 2,
    "train.batch_size": 12,
}


def of_kind(result: Any, kind: str) -> list[dict[str, Any]]:
    return [event for event in result.events if event["event"] == kind]


def test_a_run_writes_down_the_choice(train: Any) -> None:
    result = train(2, SMALL)
    (exchange,) = of_kind(result, "exchange")
    (begin,) = of_kind(result, "begin")
    assert exchange["chosen"] == begin["exchange"] == result.summary["exchange"]
    # The update is shared out: what cannot reduce-scatter does not take part.
    assert set(exchange["median_seconds"]) == {"shm", "asa"}
    assert exchange["elements"] == result.summary["parameters"]
    assert exchange["refused"] == {}
    kinds = [event["event"] for event in result.events]
    assert kinds.index("exchange") < kinds.index("begin")


def test_one_worker_has_nothing_to_choose(train: Any) -> None:
    result = train(1, SMALL)
    assert of_kind(result, "exchange") == []


@pytest.mark.parametrize(
    ("name", "sharded"), [("shm", "auto"), ("asa", "auto"), ("allreduce", "off")]
)
def test_a_resumed_run_keeps_the_choice(
    train: Any, name: str, sharded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SMALL | {"run.rule": f"bsp:sharded={sharded}"}

    def times(self: Any, *arguments: Any) -> dict[str, float]:
        return {route.name: 1.0 + (route.name != name) for route in self._routes}

    monkeypatch.setattr(AutoExchange, "_times", times)
    straight = train(2, settings, folder="straight")
    stopped = train(2, settings, folder="run", stop_at=3)
    assert stopped.summary["exchange"] == f"{name}:fp32"
    monkeypatch.setattr(AutoExchange, "_times", never)
    monkeypatch.setattr(AutoExchange, "prepare", never)
    resumed = train(2, settings, folder="run", resume=True)
    assert [event["exchange"] for event in of_kind(resumed, "begin")] == [f"{name}:fp32"] * 2
    assert len(of_kind(resumed, "exchange")) == 1
    assert resumed.summary["exchange"] == f"{name}:fp32"
    assert resumed.sha == straight.sha


def test_a_choice_that_no_longer_serves_is_made_anew(
    train: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(self: Any, *arguments: Any) -> dict[str, float]:
        return {route.name: float(number) for number, route in enumerate(self._routes)}

    monkeypatch.setattr(AutoExchange, "_times", times)
    assert train(2, SMALL, stop_at=3).summary["exchange"] == "shm:fp32"
    refuse(monkeypatch, SharedMemory)
    resumed = train(2, SMALL, resume=True)
    assert resumed.summary["exchange"] == "asa:fp32"
    first, second = of_kind(resumed, "exchange")
    assert (first["chosen"], second["chosen"]) == ("shm:fp32", "asa:fp32")
    why = "shm is not for today"
    assert second["refused"] == {"shm": why, "shm:fp32": why}


@pytest.mark.parametrize(("taken", "route"), [(True, "allreduce"), (False, "asa")])
def test_an_mpi_that_takes_the_memory_of_devices_is_used(
    taken: bool, route: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allreduce, "ACCELERATOR", "meta")
    answer = DeviceBuffers(taken, "a trial says so")

    def work(world: Any) -> tuple[str, dict[str, str]]:
        world.device_buffers = lambda device: answer
        exchange = AutoExchange(world, torch.device("meta"))
        return exchange.route.name, exchange.refused

    for name, refused in run_threads(thread_worlds(2), work):
        assert name == route
        assert refused.get("allreduce") == (None if taken else "a trial says so")
        # Here is none of the GPUs that these want.
        assert {"nccl", "ipc"} <= set(refused)
