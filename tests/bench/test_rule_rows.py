"""What the benches of rules make of their measurements, against numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arignote.bench.centre import median_of_means
from arignote.bench.load import busy_part, counts
from arignote.bench.rows import (
    CommRow,
    LoadRow,
    Measured,
    ModelRow,
    PaceRow,
    Report,
    StreamRow,
    in_step_bound,
    measured_saturation,
    saturation,
    visit_bytes,
)

PACE = PaceRow(
    "easgd",
    1000,
    3,
    True,
    2.0,
    steps=(100, 90, 50),
    seconds=2.0,
    alone=(50.0, 50.0, 25.0),
    calc=(1.9, 1.9, 1.9),
    comm=(0.05, 0.05, 0.05),
    sync=(0.0, 0.0, 0.0),
    wait=(0.01, 0.01, 0.01),
    exchanges=(10, 9, 5),
)
LOAD = LoadRow(1, 0.1, 0.4, 0.3, 0.25, kept=0.9, comm_seconds=0.01)


def test_workers_in_step_are_bounded_by_the_slowest() -> None:
    # One of four at half the speed: all at 1/2, of 3 + 1/2.
    assert in_step_bound(4, 2) == pytest.approx(4 / 7)
    assert in_step_bound(2, 3) == pytest.approx(0.5)
    assert in_step_bound(5, 1) == 1


def test_pace() -> None:
    assert PACE.steps_per_second == 120
    # 120 of 50 + 50 + 25.
    assert PACE.kept == pytest.approx(0.96)
    assert PACE.bound is None
    assert replace(PACE, asynchronous=False).bound == pytest.approx(3 / 2 / 2.5)
    told = PACE.to_json()
    assert (told["kind"], told["kept"], told["bound"]) == ("pace", PACE.kept, None)


def test_bytes_of_a_stream() -> None:
    assert visit_bytes(100) == 800
    stream = StreamRow(2, 100, visits_per_second=5.0, copies_per_second=8.0)
    assert stream.bytes_per_second == 4000
    # Copies write 8 x 400 bytes in that time.
    assert stream.of_copy == 1.25
    assert (stream.to_json()["bytes_per_second"], stream.to_json()["of_copy"]) == (4000, 1.25)


def test_when_servers_are_full() -> None:
    # A visit every 10 x 0.1 s brings 8 MB; 16 MB a second are served.
    loads = [
        saturation(p, 10**6, period=10, step_seconds=0.1, bytes_per_second=16e6) for p in (1, 2, 4)
    ]
    assert loads == pytest.approx([0.5, 1, 2])


def test_where_the_curve_becomes_flat() -> None:
    loads = [
        replace(LOAD, workers=p, model_load=0.5 * p, reached_load=reached)
        for p, reached in ((1, 0.4), (2, 0.7), (4, 0.9))
    ]
    assert measured_saturation(loads) == pytest.approx(2.25)
    # Most may have come before all: the servers get in each other's way.
    loads[2] = replace(loads[2], reached_load=0.6)
    assert measured_saturation(loads) == pytest.approx(1.75)
    assert measured_saturation(loads[:1]) is None


@pytest.mark.parametrize(
    ("workers", "expected"), [(2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (9, [1, 2, 4, 8, 9])]
)
def test_how_many_workers_load_the_servers(workers: int, expected: list[int]) -> None:
    assert counts(workers) == expected


def test_how_busy_a_server_was_in_between() -> None:
    # 5 s of the first 10, 12 s of the first 20.
    assert busy_part([(5.0, 10.0), (13.0, 15.0), (12.0, 20.0)]) == pytest.approx(0.7)
    assert busy_part([(5.0, 10.0)]) == 0.5


def test_rounds_of_several_workers() -> None:
    assert median_of_means([[1.0, 5.0, 2.0], [3.0, 5.0, 4.0]]) == 3.0


def test_rows_travel_as_json() -> None:
    rows: tuple[Measured, ...] = (
        PACE,
        replace(PACE, asynchronous=False, exchanges=None),
        StreamRow(2, 100, 5.0, 8.0),
        LOAD,
        ModelRow(10, 0.1, 16e6, 2.0, None),
        ModelRow(10, 0.1, 16e6, 2.0, 2.5),
        CommRow("bsp", 100, 2, 0.25, 0.5),
    )
    report = Report({"cores": 2}, "abc", rows)
    assert Report.parse(report.text()) == report
    assert CommRow("bsp", 100, 2, 0.25, 0.5).seconds == 0.75
