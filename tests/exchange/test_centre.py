"""A centre gives the same bits wherever it lies, loses nothing, and waits for nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from arignote.comm.base import World
from arignote.comm.crew import Crew, form_crew
from arignote.comm.script import Script
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.exchange_options import CodecOptions
from arignote.config.rule_options import ASGDOptions, EASGDOptions
from arignote.errors import UserError
from arignote.exchange.centre import open as opening
from arignote.exchange.centre import wire
from arignote.exchange.centre.base import Array, Centre, MeetsCentre
from arignote.exchange.centre.open import open_centres, serve_centres
from arignote.exchange.centre.remote import RemoteCentre
from arignote.exchange.centre.shared import SharedCentre
from arignote.registry import CODECS
from arignote.rules.asgd import Push
from arignote.rules.easgd import Elastic, take_, visit_

ALPHA = 0.5
SIZES = [1, 7, 20_001]
PART = 1000
"""Elements that travel together: so some vectors have more parts than may be under way."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "PART_ELEMENTS", PART)


def with_centre(
    workers: int,
    servers: int,
    elements: int,
    rule: MeetsCentre,
    work: Callable[[Crew, Centre], Any],
    *,
    codec: str = "fp32",
    hosts: list[str] | None = None,
    dtype: torch.dtype = torch.float32,
    script: Script | None = None,
) -> list[Any]:
    """Open a centre on a world of threads, run `work` on every worker; their results."""

    def rank(whole: World) -> Any:
        crew = form_crew(whole, servers)
        spoken = CODECS.load(codec)(CodecOptions())
        if crew.is_server:
            serve_centres(crew, lambda described, name: (rule, spoken))
            return None
        vector = torch.zeros(elements, dtype=dtype)
        (centre,) = open_centres(crew, [vector], "a test", rule, spoken)
        centre.begin(vector, 0)
        crew.workers.meet([], "the beginning")
        result = work(crew, centre)
        crew.workers.meet([], "the end")
        centre.close()
        return result

    worlds = thread_worlds(workers + servers, hosts=hosts or (), script=script)
    return run_threads(worlds, rank)[:workers]


def elastic_visit(centre: Centre, x: Array, alpha: float = ALPHA, **more: Any) -> int:
    """As EASGD does it, in steps."""

    def give(place: slice, payload: Array) -> None:
        payload[:] = x[place]

    def take(place: slice, difference: Array) -> None:
        x[place] -= x.dtype.type(alpha) * difference

    return centre.visit([alpha], give, take, "a visit", **more).staleness


def elastic_visit_at_once(centre: Centre, x: Array) -> int:
    """As EASGD does it, with as few passes and copies as it can."""
    rate, room = x.dtype.type(ALPHA), np.empty(100, dtype=x.dtype)

    def at_once(place: slice, held: Array) -> None:
        visit_(x[place], held, -rate, rate, room)

    return elastic_visit(centre, x, payload=x, at_once=at_once)


def vector(rank: int, elements: int, dtype: type = np.float32) -> Array:
    return np.random.default_rng(rank).standard_normal(elements).astype(dtype)


WAYS: list[tuple[int, list[str] | None]] = [
    (0, None),
    (1, None),
    (3, None),
    (1, ["a", "b", "b", "b"]),
    (2, ["a", "a", "b", "b", "a"]),
    (0, ["a", "b", "b"]),
]
"""(servers, hosts): shared memory, servers by shared memory, by messages, a thread of worker 0."""


@pytest.mark.parametrize("elements", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("visit", [elastic_visit, elastic_visit_at_once])
def test_the_same_bits_wherever_it_lies(
    elements: int, dtype: torch.dtype, visit: Callable[[Centre, Array], int]
) -> None:
    def work(crew: Crew, centre: Centre) -> tuple[Array, torch.Tensor]:
        x = vector(crew.workers.rank, elements, centre_type)
        for turn in range(3 * 2):
            if turn % 3 == crew.workers.rank:
                visit(centre, x)
            crew.workers.meet([], "a turn")
        out = torch.empty(elements, dtype=dtype)
        centre.read(0, out)
        return x, out

    centre_type = torch.empty(0, dtype=dtype).numpy().dtype.type
    found = []
    for servers, hosts in WAYS:
        if servers <= elements:
            all_hosts = None if hosts is None else hosts
            found.append(
                with_centre(3, servers, elements, Elastic(), work, hosts=all_hosts, dtype=dtype)
            )
    for other in found[1:]:
        for (x, centre), (first_x, first_centre) in zip(other, found[0], strict=True):
            assert np.array_equal(x, first_x)
            assert torch.equal(centre, first_centre)
    # By hand, in NumPy.
    xs, c = [vector(rank, elements, centre_type) for rank in range(3)], np.zeros(elements)
    c = c.astype(centre_type)
    for turn in range(6):
        d = xs[turn % 3] - c
        xs[turn % 3] = xs[turn % 3] - centre_type(ALPHA) * d
        c = c + centre_type(ALPHA) * d
    assert np.array_equal(found[0][0][1].numpy(), c)
    assert all(np.array_equal(found[0][rank][0], xs[rank]) for rank in range(3))


@pytest.mark.parametrize("codec", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize(
    ("servers", "hosts"), [(1, None), (2, None), (2, ["a", "a", "b", "b", "b"])]
)
def test_what_a_worker_loses_the_centre_gains(
    codec: str, servers: int, hosts: list[str] | None
) -> None:
    elements = 5001

    def work(crew: Crew, centre: Centre) -> tuple[Array, torch.Tensor]:
        x = vector(crew.workers.rank, elements)
        for _ in range(5):
            elastic_visit(centre, x)
        crew.workers.meet([], "all visits")
        out = torch.empty(elements)
        centre.read(0, out)
        return x.astype(np.float64), out

    results = with_centre(3, servers, elements, Elastic(), work, codec=codec, hosts=hosts)
    total = sum(x for x, _ in results) + results[0][1].double().numpy()
    before = sum(vector(rank, elements).astype(np.float64) for rank in range(3))
    # To the rounding of float32, not to that of the wire.
    assert np.abs(total - before).max() < 2e-6


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("servers", [0, 1, 2])
def test_no_order_of_messages_loses_anything(workers: int, servers: int) -> None:
    elements = 11

    def work(crew: Crew, centre: Centre) -> tuple[Array, list[int], torch.Tensor]:
        x = vector(crew.workers.rank, elements, np.float64)
        seen = [elastic_visit(centre, x) for _ in range(4)]
        crew.workers.meet([], "all visits")
        out = torch.empty(elements, dtype=torch.float64)
        centre.read(0, out)
        return x, seen, out

    for seed in range(40):
        results = with_centre(
            workers, servers, elements, Elastic(), work, dtype=torch.float64, script=Script(seed)
        )
        total = sum(x for x, _, _ in results) + results[0][2].numpy()
        before = sum(vector(rank, elements, np.float64) for rank in range(workers))
        assert np.allclose(total, before, atol=1e-12)
        # Each worker sees every visit of the others at most once.
        assert all(sum(seen) <= 4 * (workers - 1) for _, seen, _ in results)
        assert sum(sum(seen) for _, seen, _ in results) >= 4 * (workers - 1) - 4


def test_staleness_counts_the_visits_of_others() -> None:
    for servers in (0, 1, 2):

        def work(crew: Crew, centre: Centre) -> list[int]:
            x, seen = vector(crew.workers.rank, 5), []
            for visitor in [0, 1, 1, 0, 2, 0, 1]:
                if crew.workers.rank == visitor:
                    seen.append(elastic_visit(centre, x))
                crew.workers.meet([], "a turn")
            assert centre.behind() == [1, 0, 2][crew.workers.rank]
            return seen

        assert with_centre(3, servers, 5, Elastic(), work) == [[0, 2, 1], [1, 0, 3], [4]]


def push_visit(centre: Centre, x: Array, given: Array, rate: float) -> None:
    def give(place: slice, payload: Array) -> None:
        payload[:] = x[place] - given[place]

    def take(place: slice, answer: Array) -> None:
        x[place] = answer
        given[place] = answer

    centre.visit([rate], give, take, "a visit")


@pytest.mark.parametrize("servers", [0, 1, 3])
@pytest.mark.parametrize("staleness", ["ignore", "divide"])
@pytest.mark.parametrize("compensation", ["none", "constant", "adaptive"])
def test_asgd_against_numpy(servers: int, staleness: str, compensation: str) -> None:
    options = ASGDOptions(staleness=staleness, compensation=compensation, strength=0.3, decay=0.5)
    elements, rate = 9, 0.25
    order = [0, 1, 1, 2, 0, 2, 1, 0]

    def updates(rank: int, turn: int) -> Array:
        return vector(100 * rank + turn, elements, np.float64)

    def work(crew: Crew, centre: Centre) -> tuple[Array, torch.Tensor]:
        x, given = np.zeros(elements), np.zeros(elements)
        for turn, visitor in enumerate(order):
            if crew.workers.rank == visitor:
                x += updates(visitor, turn)
                push_visit(centre, x, given, rate)
            crew.workers.meet([], "a turn")
        out = torch.empty(elements, dtype=torch.float64)
        centre.read(0, out)
        return x, out

    results = with_centre(3, servers, elements, Push(options), work, dtype=torch.float64)

    c, squares = np.zeros(elements), np.zeros(elements)
    kept, xs, last = np.zeros((3, elements)), np.zeros((3, elements)), [0, 0, 0]
    for turn, i in enumerate(order):
        push = updates(i, turn) + xs[i] - kept[i]
        late = turn - last[i]
        last[i] = turn + 1
        share = 1 / (1 + late) if staleness == "divide" else 1.0
        g = -push / rate
        strength = np.full(elements, 0.3)
        if compensation == "adaptive":
            squares = 0.5 * squares + 0.5 * g**2
            strength = strength / np.sqrt(squares + 1e-7)
        extra = rate * strength * g * g * (c - kept[i])
        c = c + share * push - (extra if compensation != "none" else 0)
        kept[i], xs[i] = c, c
    assert np.allclose(results[0][1].numpy(), c, rtol=1e-12)
    for rank in range(3):
        assert np.allclose(results[rank][0], xs[rank], rtol=1e-12)


@pytest.mark.parametrize(("servers", "hosts"), [(0, None), (2, None), (0, ["a", "b"])])
def test_what_is_written_is_read(servers: int, hosts: list[str] | None) -> None:
    rule = Push(ASGDOptions(compensation="adaptive"))

    def work(crew: Crew, centre: Centre) -> list[torch.Tensor]:
        if crew.workers.rank == 0:
            for row in (0, 1):
                centre.write(row, torch.arange(5.0) + row)
        crew.workers.meet([], "the writing")
        outs = [torch.empty(5), torch.empty(5)]
        for row, out in enumerate(outs):
            centre.read(row, out)
        return outs

    for outs in with_centre(2, servers, 5, rule, work, hosts=hosts):
        assert torch.equal(outs[0], torch.arange(5.0))
        assert torch.equal(outs[1], torch.arange(5.0) + 1)


def test_where_it_lies() -> None:
    kind = lambda crew, centre: type(centre)  # noqa: E731
    assert set(with_centre(2, 0, 5, Elastic(), kind)) == {SharedCentre}
    assert set(with_centre(2, 1, 5, Elastic(), kind)) == {RemoteCentre}
    assert set(with_centre(2, 0, 5, Elastic(), kind, hosts=["a", "b"])) == {RemoteCentre}


def test_refusals() -> None:
    message = r"4 servers for a vector of 3 elements: use --servers 3 or fewer"
    with pytest.raises(UserError, match=message):
        with_centre(2, 4, 3, Elastic(), lambda crew, centre: None)
    with pytest.raises(UserError, match=r"shared memory|memory that the workers share, so fp16"):
        with_centre(2, 0, 3, Elastic(), lambda crew, centre: None, codec="fp16")


def test_bytes_and_load_of_a_server() -> None:
    def work(crew: Crew, centre: Centre) -> Any:
        x = vector(crew.workers.rank, 5000)
        return centre.visit(
            [ALPHA], lambda p, payload: payload.__setitem__(slice(None), x[p]), _ignore, "a visit"
        )

    assert PART < 5000
    for codec, wire_bytes in (("fp32", 2 * 5000 * 4), ("bf16", 2 * 5000 * 2)):
        for visit in with_centre(2, 1, 5000, Elastic(), work, codec=codec):
            assert visit.wire_bytes == wire_bytes
            assert 0 <= visit.server_load < 1
    for visit in with_centre(2, 0, 5000, Elastic(), work):
        assert (visit.wire_bytes, visit.server_load) == (0, None)


def test_where_memory_cannot_be_shared_messages_do(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def in_containers(world: World, *arguments: Any, **more: Any) -> None:
        asked.append(world.rank)
        raise UserError("worker 1 cannot share memory with worker 0")

    monkeypatch.setattr(opening, "SharedRows", in_containers)

    def work(crew: Crew, centre: Centre) -> tuple[Array, torch.Tensor]:
        x, out = vector(0, 5001), torch.empty(5001)
        elastic_visit(centre, x)
        centre.read(0, out)
        return x, out

    ((x, out),) = with_centre(1, 2, 5001, Elastic(), work)
    assert sorted(asked) == [0, 1, 2]
    assert np.array_equal(x, vector(0, 5001) * np.float32(0.5))
    assert np.array_equal(out.numpy(), x)


@pytest.mark.parametrize("elements", [1, 6000])
def test_the_distance_of_a_visit(elements: int) -> None:
    x, c = vector(1, elements), vector(2, elements)
    d = x - c
    moved = x - np.float32(0.25) * d
    expected = (np.square(d, dtype=np.float64).sum(), np.square(moved, dtype=np.float64).sum())
    own, rate = x.copy(), np.float32(-0.25)
    assert visit_(own, c.copy(), rate, np.float32(0.5), np.empty(512, np.float32)) == pytest.approx(
        expected, rel=1e-5
    )
    assert np.array_equal(own, moved)
    assert take_(x, d, rate) == pytest.approx(expected, rel=1e-5)
    assert np.array_equal(x, moved)


def _ignore(place: slice, answer: Array) -> None:
    pass


def test_options_are_what_they_say() -> None:
    assert (EASGDOptions().alpha, EASGDOptions().period) == (0.5, 10)
    assert (Elastic.rows, Elastic.keeps) == (0, False)
    assert (Push(ASGDOptions()).rows, Push(ASGDOptions()).keeps) == (0, False)
    assert Push(ASGDOptions(compensation="adaptive")).rows == 1
