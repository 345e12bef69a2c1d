"""Pairs of workers as threads: no speed is tested, but that every link is measured."""

from __future__ import annotations

import platform
import time
from typing import Any

import pytest

from arignote.bench import link_program, links
from arignote.bench.link_report import HERE_PREFIX, MET_LINE, REPORT_PREFIX, LinkReport
from arignote.bench.links import measure, own_rank, pairs
from arignote.comm import open as open_module
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import LostWorkerError


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_every_pair_once_and_neighbours_first(size: int) -> None:
    found = pairs(size)
    assert sorted(found) == [(a, b) for a in range(size) for b in range(a + 1, size)]
    if size > 2:
        assert {rank for pair in found[:size] for rank in pair} == set(range(size))


def test_links_are_the_same_on_all_ranks() -> None:
    worlds = thread_worlds(3, hosts=["a", "b", "c"])
    (found, left_out), *others = run_threads(worlds, lambda world: measure(world, 60.0))
    assert others == [(found, left_out)] * 2
    assert left_out == 0
    assert sorted((link.first, link.second) for link in found) == [(0, 1), (0, 2), (1, 2)]
    for link in found:
        assert min(link.there_mbit, link.back_mbit, link.latency_us) > 0
        # One clock: the offset cannot be larger than the trip.
        assert abs(link.clock_seconds) < 0.5


def test_pairs_that_have_no_time() -> None:
    worlds = thread_worlds(3)
    [(found, left_out), *_] = run_threads(worlds, lambda world: measure(world, -1.0))
    assert (found, left_out) == ([], 3)


def test_a_slow_link_is_not_kept_busy() -> None:
    sizes = []

    def transfer(size: int) -> float:
        sizes.append(size)
        # 256 KiB pass at once, as through a shaped link.
        return 0.001 if len(sizes) == 1 else size * 8 / 10e6

    assert links._rate_mbit(transfer) == pytest.approx(10.0)
    assert sizes == [256 * 1024, 512 * 1024]


def test_a_fast_link_gets_a_few_megabytes() -> None:
    sizes = []
    links._rate_mbit(lambda size: sizes.append(size) or 1e-4)
    assert sizes[-1] == 8 * 1024 * 1024


def test_whoever_does_not_come_is_named() -> None:
    worlds = thread_worlds(2, timeout_seconds=0.2, hosts=["a", "b"])

    def work(world: object) -> None:
        if worlds[0] is world:
            measure(worlds[0], 60.0)
        time.sleep(0.3)

    with pytest.raises(LostWorkerError, match="worker 1 did not come to the next link"):
        run_threads(worlds, work)


def test_what_a_rank_finds() -> None:
    assert own_rank().node


def test_the_program_tells_where_it_is(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(link_program, "die_with_parent", lambda: None)
    monkeypatch.setattr(open_module, "open_world", lambda timeout_seconds: SerialWorld())
    link_program.main(8.0, 20.0)
    here, met, report = capsys.readouterr().out.splitlines()
    assert here == f"{HERE_PREFIX}{platform.node()}"
    assert met == MET_LINE
    found = LinkReport.model_validate_json(report.removeprefix(REPORT_PREFIX))
    assert (len(found.ranks), found.links, found.left_out) == (1, [], 0)


def test_a_failure_of_the_program_is_told(monkeypatch: Any) -> None:
    told = []
    monkeypatch.setattr(link_program, "die_with_parent", lambda: None)
    monkeypatch.setattr(open_module, "open_world", lambda timeout_seconds: 1 / 0)
    monkeypatch.setattr(link_program.failure, "leave", lambda error, rank: told.append(error))
    link_program.main(8.0, 20.0)
    assert isinstance(told[0], ZeroDivisionError)
