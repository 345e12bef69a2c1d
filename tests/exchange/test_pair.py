"""pair: all draw the same matching, and no vector is lost or doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.exchange_options import ROUTE_CODECS, CodecOptions
from arignote.errors import LostWorkerError
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange
from arignote.exchange.open import open_exchange
from arignote.exchange.routes.pair import Pair, matching
from arignote.registry import CODECS, ROUTES

NAMES = [f"pair:{c.name}" for c in CODECS if c.name in ROUTE_CODECS["pair"]]


def run(workers: int, work: Callable[[World], Any]) -> list[Any]:
    return run_threads(thread_worlds(workers), work)


@pytest.mark.parametrize("workers", range(1, 10))
def test_a_matching_is_perfect(workers: int) -> None:
    for number in range(50):
        partners = matching(workers, number)
        assert sorted(partners) == list(range(workers))
        assert [partners[partner] for partner in partners] == list(range(workers))
        alone = [rank for rank, partner in enumerate(partners) if rank == partner]
        assert len(alone) == workers % 2


def test_matchings_are_uniform_and_the_same_everywhere() -> None:
    seen = Counter(tuple(matching(4, number)) for number in range(3000))
    assert len(seen) == 3
    assert min(seen.values()) > 900
    # Whoever draws this round, in whatever process, gets this.
    assert matching(6, 7) == [3, 5, 4, 0, 2, 1]
    assert matching(6, 7, seed=1) == [5, 3, 4, 1, 2, 0]
    out = Counter(rank for n in range(3000) for rank, p in enumerate(matching(5, n)) if rank == p)
    assert len(out) == 5
    assert min(out.values()) > 500


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5])
def test_the_vectors_are_all_there_again(name: str, workers: int) -> None:
    elements, rounds = 70_001, 6

    def work(world: World) -> list[int]:
        exchange = open_exchange(name, world)
        # Small whole numbers, which every codec of pair keeps.
        vector = (torch.arange(elements) % 100).float() + world.rank
        seen = []
        for number in range(rounds):
            sent = exchange.mean_(vector, what="a test")
            partner = matching(workers, number)[world.rank]
            wire_bytes = exchange.codec.wire_bytes(elements)
            assert sent == (0 if partner == world.rank else wire_bytes)
            assert wire_bytes < (4.01 if exchange.codec.lossless else 2.01) * elements
            assert torch.equal(vector - vector[0], (torch.arange(elements) % 100).float())
            seen.append(int(vector[0]))
        return seen

    results = run(workers, work)
    place = list(range(workers))
    for number in range(rounds):
        place = [place[partner] for partner in matching(workers, number)]
        assert [seen[number] for seen in results] == place
        assert sorted(place) == list(range(workers))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype: torch.dtype) -> None:
    def work(world: World) -> torch.Tensor:
        vector = torch.full((9,), 1 + world.rank * 2**-7, dtype=dtype)
        Exchange(Pair(world), FP32(CodecOptions())).mean_(vector, what="a test")
        return vector

    first, second = run(2, work)
    assert first.dtype == dtype
    assert first.tolist() == [1 + 2**-7] * 9
    assert second.tolist() == [1.0] * 9


def test_all_vectors_of_a_replica_go_the_same_way() -> None:
    def work(world: World) -> list[float]:
        exchange = open_exchange("pair", world)
        vectors = [torch.full((n,), float(world.rank)) for n in (5, 6)]
        exchange.prepare(vectors, [[vector.shape] for vector in vectors])
        for _ in range(4):
            for vector in vectors:
                exchange.mean_(vector, what="a test")
        return [float(vector[0]) for vector in vectors]

    for first, second in run(5, work):
        assert first == second


def test_a_resumed_run_draws_on_from_where_it_was() -> None:
    def work(world: World) -> tuple[float, float]:
        vector = torch.full((5,), float(world.rank))
        exchange = open_exchange("pair", world)
        exchange.prepare([vector], [[vector.shape]])
        for _ in range(3):
            exchange.mean_(vector, what="a test")
        kept = vector.clone()
        state = exchange.state_dict()
        exchange.mean_(vector, what="a test")
        other = open_exchange("pair", world)
        other.prepare([kept], [[kept.shape]])
        other.load_state_dict(state)
        other.mean_(kept, what="a test")
        return float(vector[0]), float(kept[0])

    for without, resumed in run(4, work):
        assert without == resumed


def test_a_partner_that_does_not_come() -> None:
    worlds = thread_worlds(2, timeout_seconds=0.2)

    def work(world: World) -> None:
        if world.rank == 0:
            vector = torch.ones(5)
            with pytest.raises(LostWorkerError, match=r"worker 1 sent nothing for a test within"):
                open_exchange("pair", world).mean_(vector, what="a test")
            assert torch.equal(vector, torch.ones(5))

    run_threads(worlds, work)


def test_only_pair_does_not_average() -> None:
    assert [entry.name for entry in ROUTES if not ROUTES.load(entry.name).averages] == ["pair"]


def test_another_seed_makes_other_pairs_and_a_twin_the_same() -> None:
    def work(world: World) -> list[float]:
        vectors = torch.full((3, 1), float(world.rank))
        route = Pair(world, seed=1)
        for vector, one in zip(vectors, (Pair(world), route, route.twin(world)), strict=True):
            exchange = Exchange(one, FP32(CodecOptions()))
            for _ in range(8):
                exchange.mean_(vector, what="a test")
        return [float(vector) for vector in vectors]

    drawn = run(6, work)
    assert [seeded for _, seeded, _ in drawn] == [twin for _, _, twin in drawn]
    assert [plain for plain, _, _ in drawn] != [seeded for _, seeded, _ in drawn]
