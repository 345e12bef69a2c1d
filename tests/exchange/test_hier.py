"""hier: who sums and sends what, the order of the sum, and what a codec keeps of each column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.exchange_options import CodecOptions
from arignote.exchange.base import Codec
from arignote.exchange.codecs.fp32 import FP32
from arignote.exchange.exchange import Exchange
from arignote.exchange.routes.hier import Hierarchical

ELEMENTS = 16 * 1024
UNEVEN = ["aab", "aabb", "aaab", "abcc", "aabbb", "abab"]


class Integers(Codec):
    """Rounds to whole numbers, and keeps what that loses, on both sides."""

    name = "integers"
    worker_rows = 1
    owner_rows = 1

    def __init__(self) -> None:
        super().__init__(CodecOptions())
        self.seeds: list[int] = []

    def wire_bytes(self, elements: int) -> int:
        return 2 * elements

    def encode(
        self, values: torch.Tensor, wire: torch.Tensor, state: torch.Tensor, seed: int
    ) -> None:
        self.seeds.append(seed)
        wanted = values + state[0]
        wire.view(torch.int16).copy_(wanted.round())
        state[0].copy_(wanted - wanted.round())

    def decode(self, wire: torch.Tensor, values: torch.Tensor) -> None:
        values.copy_(wire.view(torch.int16))


def run(hosts: str, work: Callable[[World], Any]) -> list[Any]:
    return run_threads(thread_worlds(len(hosts), hosts=list(hosts)), work)


def noise(seed: int) -> torch.Tensor:
    return torch.randn(ELEMENTS, generator=torch.Generator().manual_seed(seed))


def pending(exchange: Exchange) -> torch.Tensor:
    """This worker's part of what is still to come into the mean."""
    (state,) = exchange._states.values()
    total = torch.zeros(ELEMENTS)
    total[state.worker_start :][: state.worker.shape[1]] += state.worker.sum(0) / state.encoders
    total[state.owner_start :][: state.owner.shape[1]] += state.owner.sum(0)
    return total


@pytest.mark.parametrize(
    ("hosts", "values"),
    [
        # Of n values, 2 (h-1)/h * n/l from each of the first l workers of every host.
        ("aaaa", [0, 0, 0, 0]),
        ("ab", [1, 1]),
        ("aabb", [1 / 2] * 4),
        ("abab", [1 / 2] * 4),
        ("aaab", [1, 0, 0, 1]),
        ("aabbb", [1 / 2, 1 / 2, 1 / 2, 1 / 2, 0]),
        ("aabbcc", [2 / 3] * 6),
    ],
)
def test_bytes_to_other_hosts(hosts: str, values: list[float]) -> None:
    def work(world: World) -> int:
        return Exchange(Hierarchical(world), FP32(CodecOptions())).mean_(noise(1), what="a test")

    sent = run(hosts, work)
    # Slices of nearly equal length end at multiples of 1024 elements.
    assert sent == pytest.approx([4 * ELEMENTS * v for v in values], abs=4 * 2 * 1024)


def test_the_order_of_the_sum() -> None:
    def work(world: World) -> torch.Tensor:
        vector = noise(world.rank)
        Exchange(Hierarchical(world), FP32(CodecOptions())).mean_(vector, what="a test")
        return vector

    scale = torch.tensor(2 / 5)
    a = (noise(0) + noise(2)) * scale
    b = (noise(1) + noise(3) + noise(4)) * scale
    for vector in run("ababb", work):
        assert torch.equal(vector, (a + b) * 0.5)


@pytest.mark.parametrize("hosts", UNEVEN)
def test_nothing_is_lost_for_good(hosts: str) -> None:
    """What came out of all rounds, and what is pending, is the mean of what went in."""
    rounds = 5

    def work(world: World) -> tuple[torch.Tensor, torch.Tensor]:
        exchange = Exchange(Hierarchical(world), Integers())
        vector = exchange.route.allocate(ELEMENTS, torch.float32, torch.device("cpu"))
        exchange.prepare([vector], [[vector.shape]])
        total = torch.zeros(ELEMENTS)
        for turn in range(rounds):
            vector.copy_(3 * noise(100 * turn + world.rank))
            world.meet([], "a test")
            sent = exchange.mean_(vector, what="a test")
            assert sent % 2 == 0
            assert torch.equal(vector, vector.round())
            total += vector
        return total, pending(exchange)

    results = run(hosts, work)
    workers = len(hosts)
    came_in = sum(3 * noise(100 * t + r) for t in range(rounds) for r in range(workers)) / workers
    waiting = sum(part for _, part in results)
    for total, _ in results:
        assert torch.allclose(total + waiting, came_in, atol=1e-4)


@pytest.mark.parametrize("hosts", UNEVEN)
def test_a_state_is_of_ones_own_column(hosts: str) -> None:
    def work(world: World) -> Any:
        return Hierarchical(world).new_state(ELEMENTS, Integers())

    columns = min(hosts.count(host) for host in hosts)
    states = run(hosts, work)
    for rank, state in enumerate(states):
        column = hosts[:rank].count(hosts[rank])
        if column >= columns:
            assert state.worker.shape == state.owner.shape == (1, 0)
            continue
        assert state.encoders == len(set(hosts))
        assert state.worker.shape == (1, ELEMENTS // columns)
        assert state.worker_start == column * ELEMENTS // columns
        assert state.worker_start <= state.owner_start <= state.worker_start + ELEMENTS // columns
    # Every element has one owner, and as many encoders as there are hosts.
    assert sum(state.owner.numel() for state in states) == ELEMENTS
    assert sum(state.worker.numel() for state in states) == ELEMENTS * len(set(hosts))


def test_no_two_slices_round_by_the_same_dice() -> None:
    def work(world: World) -> list[int]:
        codec = Integers()
        exchange = Exchange(Hierarchical(world), codec)
        for _ in range(3):
            exchange.mean_(noise(1), what="a test")
        return codec.seeds

    seeds = [seed for each in run("aabb", work) for seed in each]
    assert len(set(seeds)) == len(seeds)


def test_columns_end_at_whole_blocks() -> None:
    class Blocks(Integers):
        block = 3000

    def work(world: World) -> int:
        return Hierarchical(world).new_state(10_000_000, Blocks()).worker_start

    starts = run("aabb", work)
    assert [start % 3000 for start in starts] == [0, 0, 0, 0]
    assert starts[1] == starts[3] > 0


def test_a_twin_finds_the_same_memory() -> None:
    def work(world: World) -> torch.Tensor:
        route = Hierarchical(world)
        twin = route.twin(world.split(0))
        vector = route.allocate(ELEMENTS, torch.float32, torch.device("cpu"))
        vector.copy_(noise(world.rank))
        world.meet([], "a test")
        Exchange(twin, FP32(CodecOptions())).mean_(vector, what="a test")
        # Memory that it knows is not staged.
        assert isinstance(twin, Hierarchical)
        assert not twin._memory._staging
        twin.close()
        route.close()
        return vector

    for vector in run("aabb", work):
        assert torch.allclose(vector, sum(noise(r) for r in range(4)) / 4, atol=1e-6)


def test_close_leaves_the_worlds_that_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    def work(world: World) -> None:
        route = Hierarchical(world)
        for part in (route._inside, route._between):
            monkeypatch.setattr(part, "close", lambda part=part: closed.append(part))
        route.close()

    run("aab", work)
    assert len(set(map(id, closed))) == 6
