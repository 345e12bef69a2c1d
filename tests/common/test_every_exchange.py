"""Every route x codec averages right: closed forms, odd sizes, several workers, twice in a row.

Routes that need GPUs (nccl, ipc) and pair, which does not average, have tests of their own in
tests/exchange. Over MPI: test_every_world.py, whose program checks exchanges too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch

from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.exchange_options import ROUTE_CODECS
from arignote.exchange.exchange import Exchange
from arignote.exchange.open import open_exchange
from arignote.registry import CODECS, ROUTES

SIZES = (0, 1, 7, 4096, 70_001)
LARGE = 1_000_003
AVERAGING = [e.name for e in ROUTES if e.name not in ("nccl", "ipc", "pair")]
NAMES = [f"{r}:{c.name}" for r in AVERAGING for c in CODECS if c.name in ROUTE_CODECS[r]]
LOSSLESS = [name for name in NAMES if CODECS.load(name.split(":")[1]).lossless]
LOSSY = [name for name in NAMES if name not in LOSSLESS]
BOUNDS = {"fp16": 0.002, "bf16": 0.02, "int8": 0.02}
"""The largest error of the mean, in units of the largest value of any worker: what the worker
and the owner of a slice round, together."""
REMEMBER = [name for name in LOSSY if name.split(":")[1] not in BOUNDS]
"""With error feedback: what one round lost, later ones bring."""


def layouts(name: str) -> list[str]:
    """The placements that an exchange is tested on: a letter, the host, for every worker."""
    several = ["ab", "aab", "aabb", "aaab", "abcc", "aabbb", "abab"]
    return ["a", "aa", "aaa", "aaaa", "aaaaa", *(several if name.startswith("hier") else [])]


CASES = [pytest.param(n, hosts, id=f"{n}-{hosts}") for n in NAMES for hosts in layouts(n)]
PLACES = {name: "aaab" if name.startswith("hier") else "aaaa" for name in NAMES}
"""One placement of four workers for each exchange."""


def run(hosts: str, work: Callable[[World], Any]) -> list[Any]:
    """`work` on every worker of a world with these hosts."""
    return run_threads(thread_worlds(len(hosts), hosts=list(hosts)), work)


def noise(elements: int, seed: int) -> torch.Tensor:
    return torch.randn(elements, generator=torch.Generator().manual_seed(seed))


def open_for(name: str, world: World, vectors: Sequence[torch.Tensor] = ()) -> Exchange:
    """An exchange that is ready for `vectors`."""
    exchange = open_exchange(name, world)
    if vectors or not name.endswith("powersgd"):
        exchange.prepare(vectors, [shapes_of(vector.numel()) for vector in vectors])
    return exchange


def shapes_of(elements: int) -> list[torch.Size]:
    """A matrix as square as can be, and what is left."""
    side = math.isqrt(elements)
    return [torch.Size([side, side]), torch.Size([elements - side**2])]


def takes(name: str, elements: int) -> bool:
    """Whether the codec takes a vector of so many elements (powersgd: none of small matrices)."""
    return elements > 1000 or not name.endswith("powersgd")


@pytest.mark.parametrize("name", NAMES)
def test_weighted_mean_of_a_large_vector(name: str) -> None:
    check_weighted_mean(name, PLACES[name], (LARGE,))


@pytest.mark.parametrize(("name", "hosts"), CASES)
def test_weighted_mean(name: str, hosts: str) -> None:
    check_weighted_mean(name, hosts, SIZES)


def check_weighted_mean(name: str, hosts: str, sizes: Sequence[int]) -> None:
    # Worker r brings r+1 samples and the vector base + r.
    workers = len(hosts)
    total = workers * (workers + 1) / 2
    shift = sum((r + 1) * r for r in range(workers)) / total

    def work(world: World) -> None:
        for elements in filter(partial(takes, name), sizes):
            base = (torch.arange(elements) % 97).float()
            vector = torch.empty(elements)
            exchange = open_for(name, world, [vector])
            assert exchange.name == name
            for weighted in (True, True, False):
                vector.copy_(base + world.rank)
                weight = workers * (world.rank + 1) / total if weighted else None
                expected = base + (shift if weighted else (workers - 1) / 2)
                world.meet([], "a test")
                sent = exchange.mean_(vector, weight=weight, what="a test")
                if workers == 1 or elements == 0:
                    assert sent == 0
                    assert torch.equal(vector, base)
                elif name in LOSSLESS:
                    assert torch.allclose(vector, expected, rtol=1e-6, atol=1e-5)
                elif name not in REMEMBER:
                    bound = BOUNDS[exchange.codec.name] * (97 + workers) * 2
                    assert (vector - expected).abs().max() <= bound
                assert torch.isfinite(vector).all()

    run(hosts, work)


@pytest.mark.parametrize(("name", "hosts"), CASES)
def test_all_workers_end_with_the_same_bits(name: str, hosts: str) -> None:
    def work(world: World) -> torch.Tensor:
        vector = torch.empty(10_001)
        exchange = open_for(name, world, [vector])
        for turn in range(3):
            vector.copy_(noise(10_001, 10 * turn + world.rank))
            world.meet([], "a test")
            exchange.mean_(vector, weight=1.0, what="a test")
        return vector

    first, *others = run(hosts, work)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("workers", [2, 3, 4, 5])
def test_all_lossless_routes_give_the_same_bits(workers: int) -> None:
    one, several = "a" * workers, "abcde"[:workers]
    cases = [("shm", one), ("asa", one), ("asa", several), ("allreduce", one)]
    # With one host hier is shm, with one worker a host it is asa.
    cases += [("hier", one), ("hier", several)]
    results = []
    for route, hosts in cases:

        def work(world: World, name: str = f"{route}:fp32") -> torch.Tensor:
            vector = noise(300_007, world.rank)
            world.meet([], "a test")
            open_for(name, world).mean_(vector, weight=0.5 + world.rank / 3, what="a test")
            return vector

        results += run(hosts, work)
    assert all(torch.equal(results[0], other) for other in results)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(name: str, dtype: torch.dtype) -> None:
    def work(world: World) -> torch.Tensor:
        vector = torch.full((2048,), 1.5 + world.rank, dtype=dtype)
        exchange = open_for(name, world, [vector])
        world.meet([], "a test")
        exchange.mean_(vector, what="a test")
        return vector

    for vector in run("ab" if name.startswith("hier") else "aa", work):
        assert vector.dtype == dtype
        if name in LOSSLESS:
            assert vector.tolist() == [2.0] * 2048
        elif name not in REMEMBER:
            assert (vector.float() - 2).abs().max() <= 2.5 * BOUNDS[name.split(":")[1]]


@pytest.mark.parametrize("name", LOSSLESS)
def test_float64_stays_float64(name: str) -> None:
    def work(world: World) -> torch.Tensor:
        vector = torch.full((5,), 1 + world.rank * 1e-12, dtype=torch.float64)
        world.meet([], "a test")
        open_for(name, world).mean_(vector, what="a test")
        return vector

    for vector in run(PLACES[name], work):
        assert torch.allclose(vector, torch.full_like(vector, 1 + 1.5e-12), rtol=0, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_inf_pass_through(name: str) -> None:
    def work(world: World) -> torch.Tensor:
        vector = torch.ones(2048)
        if world.rank == 1:
            vector[1], vector[2] = float("nan"), float("inf")
        exchange = open_for(name, world, [vector])
        world.meet([], "a test")
        exchange.mean_(vector, what="a test")
        return vector

    for vector in run("ab" if name.startswith("hier") else "aa", work):
        if name in LOSSLESS or name.endswith(("fp16", "bf16")):
            assert torch.isnan(vector[1])
            assert torch.isinf(vector[2])
            assert vector[0] == 1
            assert torch.equal(vector[3:], torch.ones(2045))
        else:
            # It may spread, but may not be lost.
            assert not torch.isfinite(vector).all()


@pytest.mark.parametrize("name", LOSSLESS)
def test_memory_of_the_route_and_of_others(name: str) -> None:
    def work(world: World) -> list[torch.Tensor]:
        exchange = open_for(name, world)
        allocated = exchange.route.allocate(5001, torch.float32, torch.device("cpu"))
        assert torch.equal(allocated, torch.zeros(5001))
        second = exchange.route.allocate(77, torch.float64, torch.device("cpu"))
        plain = torch.empty(5001)
        results = []
        for turn in range(2):
            for vector in (allocated, plain, second):
                vector.copy_(noise(vector.numel(), world.rank + turn))
                world.meet([], "a test")
                exchange.mean_(vector, what="a test")
                results.append(vector.clone())
            assert torch.equal(results[-3], results[-2])
        exchange.route.close()
        return results

    for results in run(PLACES[name], work):
        for turn in range(2):
            for result, elements in zip(results[3 * turn :], (5001, 5001, 77), strict=False):
                expected = sum(noise(elements, rank + turn) for rank in range(4)) / 4
                assert torch.allclose(result.float(), expected, atol=1e-6)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("allocated", [True, False])
def test_parts_of_a_vector(name: str, allocated: bool) -> None:
    def work(world: World) -> tuple[torch.Tensor, torch.Tensor]:
        exchange = open_for(name, world)
        make = exchange.route.allocate if allocated else torch.zeros
        rest = (torch.float32, torch.device("cpu")) if allocated else ()
        whole, parts = make(9001, *rest), make(9001, *rest)
        for vector in (whole, parts):
            vector.copy_(noise(9001, world.rank))
        exchange.prepare([whole, parts], [[whole.shape], [parts.shape]])
        world.meet([], "a test")
        exchange.mean_(whole[1:], what="a test")
        # Largest first, and odd borders.
        for part in (slice(2050, 9001), slice(3, 2050), slice(1, 3)):
            world.meet([], "a test")
            exchange.mean_(parts[part], what="a test")
        assert torch.equal(parts[0], noise(9001, world.rank)[0])
        return whole, parts

    for whole, parts in run(PLACES[name], work):
        assert torch.equal(whole[1:], parts[1:])


@pytest.mark.parametrize("name", [n for n in LOSSLESS if ROUTES.load(n.split(":")[0]).shards])
@pytest.mark.parametrize("workers", [2, 3, 5])
def test_reduce_scatter_and_all_gather_are_the_mean(name: str, workers: int) -> None:
    def work(world: World) -> tuple[slice, torch.Tensor, torch.Tensor]:
        route = open_for(name, world).route
        exchange = open_for(name, world)
        whole, halves = (
            r.allocate(40_003, torch.float32, torch.device("cpu")) for r in (exchange.route, route)
        )
        for _ in range(2):
            whole.copy_(noise(40_003, world.rank))
            halves.copy_(whole)
            world.meet([], "a test")
            exchange.mean_(whole, what="a test")
            own = route.own_slice(40_003)
            world.meet([], "a test")
            route.reduce_scatter_(halves, "a test")
            assert torch.equal(halves[own], whole[own])
            halves[own] *= 2
            route.all_gather_(halves, "a test")
            assert torch.equal(halves, 2 * whole)
        return own, whole, halves

    results = run("a" * workers, work)
    starts = [own.start for own, _, _ in results]
    assert [own.stop for own, _, _ in results] == [*starts[1:], 40_003]
    assert starts[0] == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_twin_for_another_thread(name: str) -> None:
    def work(world: World) -> torch.Tensor:
        exchange = open_for(name, world)
        vector = exchange.route.allocate(3001, torch.float32, torch.device("cpu"))
        exchange.prepare([vector], [shapes_of(3001)])
        twin = exchange.twin(world.split(0))
        assert twin.name == name
        for turn, one in enumerate((exchange, twin, exchange)):
            vector.copy_(noise(3001, world.rank + turn))
            world.meet([], "a test")
            one.mean_(vector, what="a test")
        assert exchange.state_dict().keys() == twin.state_dict().keys()
        return vector

    first, *others = run(PLACES[name], work)
    assert all(torch.equal(first, other) for other in others)
    if name in LOSSLESS:
        assert torch.allclose(first, sum(noise(3001, r + 2) for r in range(4)) / 4, atol=1e-6)


def gradient(seed: int) -> torch.Tensor:
    """Of a matrix of 48 x 40 and a bias of 48, shape (1968,)."""
    return noise(1968, seed)


SHAPES = [[torch.Size([48, 40]), torch.Size([48])]]
FEEDBACK = {"topk": ",k=0.2"}
"""Options with which a few hundred rounds are enough."""


def open_feedback(name: str, world: World, vector: torch.Tensor) -> Exchange:
    exchange = open_exchange(name + FEEDBACK.get(name.split(":")[1], ""), world)
    exchange.prepare([vector], SHAPES)
    return exchange


@pytest.mark.parametrize(
    ("name", "hosts"),
    [(n, hosts) for n in REMEMBER for hosts in (("aaab", "aabb") if "hier" in n else ("aaa",))],
)
def test_what_is_lost_comes_later(name: str, hosts: str) -> None:
    def work(world: World) -> list[torch.Tensor]:
        vector = torch.zeros(1968)
        exchange = open_feedback(name, world, vector)
        total, means = torch.zeros(1968), []
        for turn in range(200):
            vector.copy_(gradient(world.rank))
            world.meet([], "a test")
            exchange.mean_(vector, what="a test")
            total += vector
            means.append(total / (turn + 1))
        return means

    expected = sum(gradient(rank) for rank in range(len(hosts))) / len(hosts)
    for means in run(hosts, work):
        errors = [float((mean - expected).norm() / expected.norm()) for mean in means]
        # What is still pending stays about the same, so its share shrinks with every round.
        assert errors[199] < 0.1
        assert errors[199] < errors[49] * 0.6


@pytest.mark.parametrize("name", LOSSY)
def test_a_state_goes_on_exactly(name: str) -> None:
    def rounds(exchange: Exchange, vector: torch.Tensor, turns: range) -> torch.Tensor:
        world = exchange.route.world
        for turn in turns:
            vector.copy_(gradient(10 * turn + world.rank))
            world.meet([], "a test")
            exchange.mean_(vector, what="a test")
        return vector.clone()

    def work(world: World) -> None:
        vector = torch.zeros(1968)
        exchange = open_feedback(name, world, vector)
        rounds(exchange, vector, range(3))
        saved = deepcopy(exchange.state_dict())
        other = open_feedback(name, world, vector)
        other.load_state_dict(saved)
        expected = rounds(exchange, vector, range(3, 6))
        assert torch.equal(rounds(other, vector, range(3, 6)), expected)

    run(PLACES[name], work)


def pending(states: list[dict[str, Any]]) -> torch.Tensor:
    """What all workers together had still to bring into the mean."""
    total = torch.zeros(1968)
    for state in states:
        (fields,) = state.values()
        if "error" in fields:
            error = fields["error"].flatten()
            total[: error.numel()] += error / len(states)
            continue
        worker, owner = fields["worker"], fields["owner"]
        start = fields["worker_start"]
        total[start : start + worker.shape[1]] += worker.sum(0) / fields["encoders"]
        start = fields["owner_start"]
        total[start : start + owner.shape[1]] += owner.sum(0)
    return total


@pytest.mark.parametrize("name", REMEMBER)
@pytest.mark.parametrize(("before", "after"), [("aab", "aabb"), ("aabb", "ab"), ("abc", "aaabb")])
def test_states_of_other_workers_are_merged(name: str, before: str, after: str) -> None:
    if not name.startswith("hier"):
        before, after = "a" * len(before), "a" * len(after)

    def collect(world: World) -> dict[str, Any]:
        vector = torch.zeros(1968)
        exchange = open_feedback(name, world, vector)
        for turn in range(3):
            vector.copy_(gradient(10 * turn + world.rank))
            world.meet([], "a test")
            exchange.mean_(vector, what="a test")
        return exchange.state_dict()

    old = run(before, collect)

    def merge(world: World) -> dict[str, Any]:
        vector = torch.zeros(1968)
        exchange = open_feedback(name, world, vector)
        exchange.merge_state_dicts(old)
        merged = deepcopy(exchange.state_dict())
        world.meet([], "a test")
        exchange.mean_(vector, what="a test")
        return merged

    expected = pending(old)
    assert expected.norm() > 0.1
    assert torch.allclose(pending(run(after, merge)), expected, atol=1e-5)
