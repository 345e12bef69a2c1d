"""Rounds in turns, with workers as threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest

from arignote.bench import timing
from arignote.bench.rows import Report, Row, median_and_spread
from arignote.bench.timing import Entrant, race, rows
from arignote.comm.base import World
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds


@pytest.fixture
def limits(monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setattr(timing, "_LEAST_ROUNDS", 3)
    monkeypatch.setattr(timing, "_MOST_ROUNDS", 7)
    yield


@pytest.mark.parametrize(("seconds", "rounds"), [(1e-9, 3), (60.0, 7)])
def test_all_take_turns(limits: None, seconds: float, rounds: int) -> None:
    calls: list[str] = []

    def make(name: str) -> Entrant:
        return Entrant(name, lambda: calls.append(name) or 5, refresh=lambda: calls.append("new"))

    entrants = [make("a"), make("b")]
    race(entrants, SerialWorld(), seconds)
    assert [len(entrant.seconds) for entrant in entrants] == [rounds, rounds]
    # Short as they are, each is called four times in a turn but in the first.
    named = [name for name in calls if name != "new"]
    turns = [(name, len(list(group))) for name, group in groupby(named)]
    assert turns == [("a", 1), ("b", 1)] + [("a", 4), ("b", 4)] * rounds
    assert calls[0::2] == ["new"] * len(named)


def test_what_is_long_is_called_once_a_turn(limits: None) -> None:
    calls: list[int] = []

    def call() -> int:
        calls.append(1)
        time.sleep(0.01)
        return 0

    race([Entrant("long", call)], SerialWorld(), 1e-9)
    assert len(calls) == 1 + 3


def test_a_round_lasts_as_long_as_its_slowest_worker() -> None:
    def work(world: World) -> list[Row]:
        entrant = Entrant("x", lambda: 0, chosen="shm:fp32" if world.rank else None)
        entrant.seconds = [[3.0, 1.0, 5.0], [2.0, 4.0, 1.0]][world.rank]
        entrant.wire_bytes = 10 * world.rank
        return rows([entrant], world, 7)

    first, second = run_threads(thread_worlds(2), work)
    assert first == [Row("x", 7, 2, 4.0, (3.5, 4.5), 10)]
    assert second[0].chosen == "shm:fp32"


def test_one_measurement_has_no_spread() -> None:
    assert median_and_spread([2.0]) == (2.0, (2.0, 2.0))


def test_a_report_travels_as_json() -> None:
    row = Row("auto", 7, 2, 4.0, (3.5, 4.5), 10, chosen="shm:fp32")
    report = Report({"cores": 2}, "abc", (row,))
    assert Report.parse(report.text()) == report
    assert set(row.to_json()) == {
        "name", "elements", "workers", "median_seconds", "spread", "wire_bytes", "chosen",
    }  # fmt: skip
