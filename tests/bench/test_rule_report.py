"""The tables of the benches of rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from arignote.bench.rows import (
    CommRow,
    LoadRow,
    Measured,
    ModelRow,
    PaceRow,
    Report,
    Row,
    StreamRow,
)
from arignote.bench.rule_report import show_centre, show_straggler

MACHINE = {
    "cpu": "X",
    "cores": 2,
    "load_before": 0.1,
    "hosts": 1,
    "servers": 0,
    "threads_per_worker": 1,
    "mpi": "M",
    "torch": "2",
}


def test_straggler(capsys: Any) -> None:
    bsp = PaceRow(
        "bsp", 1000, 3, False, 2.0, (40, 40, 40), 2.0, (50.0, 50.0, 25.0),
        calc=(1.0, 1.2, 2.0), comm=(0.0, 0.0, 0.0), sync=(1.0, 0.8, 0.0), wait=(0.0, 0.0, 0.0),
    )  # fmt: skip
    easgd = replace(bsp, name="easgd", asynchronous=True, steps=(90, 80, 50), exchanges=(9, 8, 5))
    show_straggler(Report(MACHINE, "abc", (bsp, easgd)))
    lines = capsys.readouterr().out.splitlines()
    cells = [" ".join(line.split()) for line in lines]
    assert cells[1].startswith("bsp 60 48 % 60 % 40, 40 every step 55.0 0.0 45.0 0.0 % 100.0 0.0 ")
    assert cells[2].startswith("easgd 110 88 % free 85, 50 22 ")
    assert max(map(len, lines[:3])) <= 120
    assert any("worker 2 is slowed 2 times by a sleep" in line for line in lines)
    assert any("keep at most 60 %" in line for line in lines)


def test_centre(capsys: Any) -> None:
    def row(name: str, workers: int, seconds: float) -> Row:
        return Row(name, 1000, workers, seconds, (seconds, seconds), 0)

    visits: tuple[Measured, ...] = (
        row("easgd", 1, 3e-3), row("copy", 1, 2e-3), row("easgd", 2, 6e-3), row("copy", 2, 3e-3),
        StreamRow(1, 1000, 200.0, 500.0),
        CommRow("easgd:period=10", 1000, 2, 1e-3, 0.0),
        CommRow("bsp, allreduce:fp32", 1000, 2, 7e-3, 1e-3),
    )  # fmt: skip
    show_centre(Report(MACHINE, "abc", visits))
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "1 easgd 3 ms 3 ms .. 3 ms 0 B 1.5" in lines
    assert "2 easgd 6 ms 6 ms .. 6 ms 0 B 2" in lines
    # 200 visits of 8 kB a second, 500 copies of 4 kB.
    assert "1 200 1.6 MB/s 80 %" in lines
    assert "easgd:period=10 2 1 ms 0 µs 1 ms 8" in lines
    assert "the centre is in memory that the workers share" in out
    assert "server busy" not in out

    loads = (
        LoadRow(1, 0.01, 0.5, 0.45, 0.4, 0.9, 1e-3),
        ModelRow(10, 0.01, 1.6e6, 2.0, 2.25),
        ModelRow(10, 0.1, 1.6e6, 20.0),
    )
    show_centre(Report(MACHINE | {"servers": 2}, "abc", visits + loads))
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "1 10 ms 50 % 45 % 40 % 90 % 1 ms" in lines
    assert "at p = 2, measured (the most visits over those of one worker) p = 2.25" in out
    assert "at p = 20, not reached with so few workers" in out
    assert "2 server(s), reached through memory that they share" in out
