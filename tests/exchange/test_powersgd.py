"""PowerSGD against a NumPy reference, with workers as threads: rounds, states, parts, oddities."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import UserError
from arignote.exchange.codecs import low_rank
from arignote.exchange.codecs.kept_matrix import matrices_of
from arignote.exchange.codecs.powersgd import PowerSGDExchange
from arignote.exchange.open import open_exchange

RANK = 2
SHAPES = [[torch.Size(s) for s in ((24, 20), (24,), (8, 3, 5, 5), (3, 2), ())]]
ELEMENTS = 480 + 24 + 600 + 6 + 1
COMPRESSED = [(slice(0, 480), (24, 20), 0), (slice(504, 1104), (8, 75), 2)]
"""Place, shape, and which tensor it is."""
PLAIN = [slice(480, 504), slice(1104, 1111)]


def noise(turn: int, rank: int, elements: int = ELEMENTS) -> torch.Tensor:
    return torch.randn(elements, generator=torch.Generator().manual_seed(100 * turn + rank))


def opened(
    world: World, vector: torch.Tensor, shapes: Any = SHAPES, rank: int = RANK
) -> PowerSGDExchange:
    exchange = open_exchange(f"allreduce:powersgd,rank={rank}", world)
    assert isinstance(exchange, PowerSGDExchange)
    exchange.prepare([vector], shapes)
    return exchange


def one_round(exchange: Any, vector: torch.Tensor, gradient: torch.Tensor, **options: Any) -> Any:
    vector.copy_(gradient)
    exchange.route.world.meet([], "a test")
    return exchange.mean_(vector, what="a test", **options)


def run(workers: int, work: Callable[[World], Any]) -> list[Any]:
    return run_threads(thread_worlds(workers), work)


class Reference:
    """The formulas in NumPy and float64; an orthonormal basis by QR, for only its span matters."""

    def __init__(self, workers: int, rank: int = RANK) -> None:
        self.errors = [np.zeros(ELEMENTS) for _ in range(workers)]
        self.q = {}
        for _, (_, columns), seed in COMPRESSED:
            generator = torch.Generator().manual_seed(seed)
            self.q[seed] = torch.randn(rank, columns, generator=generator).double().numpy().T

    def round(self, gradients: list[Any], weights: list[float]) -> Any:
        d = [w * g + e for w, g, e in zip(weights, gradients, self.errors, strict=True)]
        mean = np.mean(d, axis=0)
        for place, shape, seed in COMPRESSED:
            matrices = [di[place].reshape(shape) for di in d]
            p, _ = np.linalg.qr(np.mean([m @ self.q[seed] for m in matrices], axis=0))
            self.q[seed] = np.mean([m.T @ p for m in matrices], axis=0)
            mean[place] = (p @ self.q[seed].T).ravel()
            for di, error in zip(d, self.errors, strict=True):
                error[place] = di[place] - mean[place]
        return mean


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_against_numpy(workers: int, weighted: bool) -> None:
    total = workers * (workers + 1) / 2
    weights = [workers * (r + 1) / total if weighted else 1.0 for r in range(workers)]
    turns = 8

    def work(world: World) -> list[Any]:
        vector = torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        weight = weights[world.rank] if weighted else None
        means = []
        for turn in range(turns):
            one_round(exchange, vector, noise(turn, world.rank), weight=weight)
            means.append(vector.numpy().copy())
        return means

    results = run(workers, work)
    reference = Reference(workers)
    for turn in range(turns):
        gradients = [noise(turn, rank).double().numpy() for rank in range(workers)]
        expected = reference.round(gradients, weights)
        for means in results:
            np.testing.assert_allclose(means[turn], expected, atol=2e-4)
            assert np.array_equal(means[turn], results[0][turn])


def test_one_worker_alone_loses_nothing() -> None:
    def work(world: World) -> None:
        vector = torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        assert one_round(exchange, vector, noise(0, 0)) == 0
        assert torch.equal(vector, noise(0, 0))
        assert exchange.state_dict() == {}

    run(1, work)


@pytest.mark.parametrize("workers", [2, 3])
def test_a_matrix_of_no_higher_rank_comes_exactly(workers: int) -> None:
    def gradient(turn: int, rank: int) -> torch.Tensor:
        left = noise(turn, 50, 24).view(24, 1) * 1e-3
        return (left * noise(turn, rank, 20)).flatten()

    def work(world: World) -> None:
        vector = torch.zeros(480)
        exchange = opened(world, vector, [[torch.Size([24, 20])]])
        for turn in range(5):
            one_round(exchange, vector, gradient(turn, world.rank))
            expected = sum(gradient(turn, rank) for rank in range(workers)) / workers
            assert torch.allclose(vector, expected, atol=1e-8)

    run(workers, work)


@pytest.mark.parametrize("workers", [2, 3])
def test_what_is_lost_is_kept(workers: int) -> None:
    """Sum of all means + mean of the errors = sum of the means of all gradients."""

    def work(world: World) -> tuple[torch.Tensor, torch.Tensor]:
        vector, received = torch.zeros(ELEMENTS), torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        for turn in range(40):
            one_round(exchange, vector, noise(turn, world.rank))
            received += vector
        return received, errors_of(exchange.state_dict())

    results = run(workers, work)
    owed = sum(error for _, error in results) / workers
    brought = sum(noise(t, r) for t in range(40) for r in range(workers)) / workers
    for received, _ in results:
        assert torch.allclose(received + owed, brought, atol=1e-4)
    # The error does not grow without end: it is less than a dozen rounds' gradients.
    assert owed.norm() < 12 * noise(0, 0).norm()


def errors_of(state: dict[str, Any]) -> torch.Tensor:
    """The errors in their places."""
    errors = torch.zeros(ELEMENTS)
    for place, _, _ in COMPRESSED:
        errors[place] = state[f"0.{place.start}.{place.stop}"]["error"].flatten()
    return errors


def copied(state: dict[str, Any]) -> dict[str, Any]:
    return {key: {k: v.clone() for k, v in fields.items()} for key, fields in state.items()}


def test_saving_changes_nothing_and_a_resumed_run_goes_on_exactly() -> None:
    def go_on(exchange: Any, vector: torch.Tensor, turns: range) -> torch.Tensor:
        for turn in turns:
            one_round(exchange, vector, noise(turn, exchange.route.world.rank))
        return vector.clone()

    def work(world: World) -> None:
        vector = torch.zeros(ELEMENTS)
        through = go_on(opened(world, vector), vector, range(6))
        exchange = opened(world, vector)
        go_on(exchange, vector, range(3))
        state = copied(exchange.state_dict())
        assert torch.equal(go_on(exchange, vector, range(3, 6)), through)
        resumed = opened(world, vector)
        resumed.load_state_dict(copied(state))
        # What is not used yet is not lost.
        assert resumed.state_dict().keys() == state.keys()
        assert torch.equal(go_on(resumed, vector, range(3, 6)), through)
        again = opened(world, vector)
        go_on(again, vector, range(2))
        again.load_state_dict(copied(state))
        assert torch.equal(go_on(again, vector, range(3, 6)), through)

    run(2, work)


def test_after_another_rank_only_the_error_is_taken_over() -> None:
    def work(world: World) -> None:
        vector = torch.zeros(ELEMENTS)
        first = opened(world, vector)
        one_round(first, vector, noise(0, world.rank))
        state = copied(first.state_dict())
        second = opened(world, vector, rank=3)
        second.load_state_dict(copied(state))
        one_round(second, vector, torch.zeros(ELEMENTS))
        owed = errors_of(state)
        left = errors_of(second.state_dict())
        for place, _, _ in COMPRESSED:
            assert 0 < left[place].norm() < owed[place].norm()
            assert torch.allclose(vector[place] + left[place], owed[place], atol=1e-5)

    run(2, work)


@pytest.mark.parametrize("after", [1, 2, 4])
def test_states_of_other_workers_are_merged(after: int) -> None:
    def collect(world: World) -> dict[str, Any]:
        vector = torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        for turn in range(3):
            one_round(exchange, vector, noise(turn, world.rank))
        return copied(exchange.state_dict())

    old = run(3, collect)
    owed = sum(errors_of(state) for state in old) / 3

    def merge(world: World) -> None:
        vector = torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        exchange.merge_state_dicts(copied_all(old))
        merged = exchange.state_dict()
        assert torch.allclose(errors_of(merged), owed, atol=1e-6)
        assert torch.equal(merged["0.0.480"]["q"], old[0]["0.0.480"]["q"])
        one_round(exchange, vector, torch.zeros(ELEMENTS))
        left = errors_of(exchange.state_dict()) if after > 1 else torch.zeros(ELEMENTS)
        assert torch.allclose(vector + left, owed, atol=1e-5)
        if after == 1:
            # Paid back once.
            one_round(exchange, vector, torch.zeros(ELEMENTS))
            assert (vector == 0).all()

    run(after, merge)


def copied_all(states: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [copied(state) for state in states]


@pytest.mark.parametrize("rank", [1, RANK])
def test_parts_are_the_whole(rank: int) -> None:
    borders = [0, 504, 1104, ELEMENTS]

    def work(world: World) -> None:
        whole, cut = torch.zeros(ELEMENTS), torch.zeros(ELEMENTS)
        at_once, in_parts = opened(world, whole, rank=rank), opened(world, cut, rank=rank)
        for turn in range(4):
            cut.copy_(noise(turn, world.rank))
            sent = one_round(at_once, whole, noise(turn, world.rank), weight=0.5 + world.rank)
            parts_sent = 0
            # Last part first, as backward fills them; the last one has no matrix.
            for start, stop in reversed(list(pairwise(borders))):
                world.meet([], "a test")
                part = cut[start:stop]
                parts_sent += in_parts.mean_(part, weight=0.5 + world.rank, what="a test")
            assert torch.equal(whole, cut)
            assert sent == parts_sent
        assert at_once.state_dict().keys() == in_parts.state_dict().keys()

    run(2, work)


def test_a_twin_shares_what_is_kept() -> None:
    def work(world: World) -> None:
        one, vector = torch.zeros(ELEMENTS), torch.zeros(ELEMENTS)
        alone, exchange = opened(world, one), opened(world, vector)
        twin = exchange.twin(world.split(0))
        state: dict[str, Any] = {}
        for turn, which in enumerate([twin, exchange, twin, exchange]):
            one_round(alone, one, noise(turn, world.rank))
            one_round(which, vector, noise(turn, world.rank))
            assert torch.equal(one, vector)
            if turn == 2:
                state = copied(exchange.state_dict())
        # Also what is loaded after the twin was made.
        exchange.load_state_dict(state)
        one_round(twin, vector, noise(3, world.rank))
        assert torch.equal(one, vector)

    run(2, work)


def test_which_tensors_are_compressed() -> None:
    shapes = [
        [torch.Size(s) for s in ((4, 4), (5, 4), (1, 90), (90,), ())],
        [torch.Size(s) for s in ((0, 8), (6, 2, 3), (3, 3, 1, 1))],
    ]
    found = matrices_of(shapes, rank=2)
    assert [m.key for m in found[0]] == ["0.16.36"]
    assert [(m.key, m.rows, m.columns, m.seed) for m in found[1]] == [("1.0.36", 6, 6, 6)]
    assert matrices_of(shapes, rank=3) == [[], []]


def test_bytes_and_the_report() -> None:
    def work(world: World) -> None:
        vector = torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        p, q, plain = 2 * (24 + 8), 2 * (20 + 75), 31
        # Allreduce among two sends what it is given.
        assert one_round(exchange, vector, noise(0, world.rank)) == 4 * (p + q + plain)
        assert exchange.report == {
            "compressed_tensors": 2,
            "tensors": 5,
            "elements": ELEMENTS,
            "sent_elements": p + q + plain,
        }
        assert exchange.name == "allreduce:powersgd,rank=2"
        assert exchange.lossless().codec.lossless

    run(2, work)


def test_nothing_to_compress() -> None:
    vector = torch.zeros(ELEMENTS)
    (world,) = thread_worlds(1)
    with pytest.raises(UserError, match=r"rank=64 makes none of the 5 tensors smaller: take a low"):
        opened(world, vector, rank=64)


def test_nan_passes_through_once() -> None:
    def work(world: World) -> None:
        vector = torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        one_round(exchange, vector, noise(0, world.rank))
        bad = noise(1, world.rank)
        if world.rank == 1:
            bad[7], bad[490] = torch.nan, torch.inf
        one_round(exchange, vector, bad)
        assert vector[:480].isnan().all()
        assert vector[490] == torch.inf
        rest = torch.cat([vector[480:490], vector[491:]])
        assert rest.isfinite().all()
        assert (errors_of(exchange.state_dict())[:480] == 0).all()
        # As if it were the first round.
        one_round(exchange, vector, noise(2, world.rank))
        fresh = torch.zeros(ELEMENTS)
        one_round(opened(world, fresh), fresh, noise(2, world.rank))
        assert torch.equal(vector[:480], fresh[:480])

    run(2, work)


def test_a_mean_that_overflows_is_nan_on_all_workers() -> None:
    def work(world: World) -> None:
        vector = torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        gradient = torch.zeros(ELEMENTS)
        gradient[:480].view(24, 20)[:, 0] = 5e37
        # P is as large as that; Q is the length of this column, and the sum of both too large.
        one_round(exchange, vector, gradient)
        assert vector[:480].isnan().all()
        one_round(exchange, vector, noise(1, world.rank))
        assert vector.isfinite().all()

    run(2, work)


def test_zeros_and_after() -> None:
    def work(world: World) -> None:
        vector = torch.zeros(ELEMENTS)
        exchange = opened(world, vector)
        for _ in range(2):
            one_round(exchange, vector, torch.zeros(ELEMENTS))
            assert (vector == 0).all()
        # Columns that were zero have not died.
        matrix = noise(0, 7, 48).view(24, 2) @ noise(0, 8, 40).view(2, 20)
        gradient = torch.cat([matrix.flatten(), torch.zeros(ELEMENTS - 480)])
        one_round(exchange, vector, gradient)
        assert torch.allclose(vector, gradient, atol=1e-5)

    run(2, work)


def test_tiny_gradients_are_not_lost() -> None:
    def work(world: World) -> None:
        vector = torch.zeros(480)
        exchange = opened(world, vector, [[torch.Size([24, 20])]])
        matrix = noise(0, 7, 48).view(24, 2) @ noise(0, 8, 40).view(2, 20)
        for _ in range(4):
            one_round(exchange, vector, matrix.flatten() * 1e-30)
            assert torch.allclose(vector * 1e30, matrix.flatten(), rtol=1e-4, atol=1e-5)

    run(2, work)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_are_computed_in_float32(dtype: torch.dtype) -> None:
    def work(world: World) -> None:
        wide, vector = torch.zeros(ELEMENTS), torch.zeros(ELEMENTS, dtype=dtype)
        exact, exchange = opened(world, wide), opened(world, vector)
        for turn in range(3):
            gradient = noise(turn, world.rank).to(dtype)
            one_round(exact, wide, gradient)
            one_round(exchange, vector, gradient)
            assert torch.equal(vector, wide.to(dtype))

    run(2, work)


def test_vectors_that_were_not_prepared_lose_nothing() -> None:
    def work(world: World) -> None:
        prepared = torch.zeros(ELEMENTS)
        exchange = opened(world, prepared)
        statistics = noise(0, world.rank)
        world.meet([], "a test")
        exchange.mean_(statistics, what="a test")
        assert torch.allclose(statistics, (noise(0, 0) + noise(0, 1)) / 2)
        assert exchange.mean_(prepared[:0], what="a test") == 0

    run(2, work)


def test_the_way_of_gpus_gives_the_same_numbers() -> None:
    """By torch's own products, which serve every device."""

    def work(world: World) -> None:
        vector, other = torch.zeros(ELEMENTS), torch.zeros(ELEMENTS)
        exchange, torchs = opened(world, vector), opened(world, other)
        for turn in range(6):
            one_round(exchange, vector, noise(turn, world.rank), weight=0.5 + world.rank)
            one_round(torchs, other, noise(turn, world.rank), weight=0.5 + world.rank)
            for kept in torchs._kept.values():
                kept.compiled = False
            assert torch.allclose(vector, other, atol=2e-4)

    run(2, work)


# The loops.


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize(("rows", "columns"), [(12, 11), (13, 2049), (64, 576), (401, 20)])
def test_loops_against_numpy(rank: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(rank)
    g, d = random.standard_normal((2, rows, columns)).astype(np.float32)
    p = random.standard_normal((rows, rank)).astype(np.float32)
    low_q, q = random.standard_normal((2, rank, columns)).astype(np.float32)
    low = np.empty_like(d)
    low_rank.expand(p, low_q, low)
    np.testing.assert_allclose(low, p.astype(float) @ low_q, atol=1e-5)
    after, fresh = d.copy(), p.copy()
    low_rank.absorb(g, np.float32(0.75), after, fresh, low_q, q)
    # Element by element the same operations: the error telescopes without a rounding too many.
    assert np.array_equal(after, np.float32(0.75) * g + (d - low))
    np.testing.assert_allclose(fresh, after.astype(float) @ q.T, atol=1e-3)
    low_rank.project(after, fresh, q)
    np.testing.assert_allclose(q, fresh.astype(float).T @ after, rtol=1e-4, atol=0.1)


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_columns_become_orthonormal(rank: int) -> None:
    random = np.random.default_rng(rank)
    # Lengths from 1e-30 to 1, and nearly the same direction.
    p = random.standard_normal((300, 1)) + 1e-2 * random.standard_normal((300, rank))
    p = (p * np.logspace(-30, 0, rank)).astype(np.float32)
    made = p.copy()
    assert low_rank.orthogonalise(made)
    np.testing.assert_allclose(made.T.astype(float) @ made, np.eye(rank), atol=1e-6)
    q, _ = np.linalg.qr(p.astype(float) / np.linalg.norm(p.astype(float), axis=0))
    np.testing.assert_allclose(made @ made.T, q @ q.T, atol=1e-5)


def test_dependent_columns_become_zero() -> None:
    one, two = np.random.default_rng(0).standard_normal((2, 50))
    p = np.stack([np.zeros(50), one, 2 * one, two, one], axis=1).astype(np.float32)
    assert low_rank.orthogonalise(p)
    np.testing.assert_allclose(p.T @ p, np.diag([0, 1, 0, 1, 0]), atol=1e-6)
    p[3, 1] = np.nan
    assert not low_rank.orthogonalise(p)
