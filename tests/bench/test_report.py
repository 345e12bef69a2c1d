"""The table, the legend and the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from arignote.bench import report as module
from arignote.bench.report import amount, commit, duration, show
from arignote.bench.rows import Report, Row
from arignote.errors import UserError
from arignote.recorder.plots import check_target, plot_exchanges

MACHINE = {
    "cpu": "X",
    "cores": 2,
    "load_before": 0.1,
    "hosts": 1,
    "threads_per_worker": 1,
    "mpi": "M",
    "torch": "2",
}


def row(name: str, seconds: float, **more: Any) -> Row:
    return Row(name, 1000, 2, seconds, (seconds, 2 * seconds), 4000, **more)


def test_table_of_exchanges(capsys: Any) -> None:
    rows = (row("auto", 1e-3, chosen="shm:fp32"), row("mpi", 4e-3), row("copy", 5e-6))
    show(Report(MACHINE, "abc", rows))
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines()]
    assert " ".join(lines[0]) == "elements exchange median middle half sent / mpi / copy"
    assert lines[1][:3] == ["1,000", "auto", "(shm:fp32)"]
    assert lines[1][-2:] == ["0.25", "200"]
    assert "mpi: MPI_Allreduce through mpi4py" in out
    assert "gloo:" not in out
    assert "/ mpi, / copy: this row's time over that one's; below 1 is faster" in out
    assert "arignote abc" in out


def test_table_of_steps(capsys: Any) -> None:
    rows = (row("arignote", 0.5, samples_per_second=64.0), row("ddp", 1.0, samples_per_second=32.0))
    show(Report(MACHINE, "abc", rows))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert " ".join(lines[0]) == "parameters step median middle half samples/s sent / ddp"
    assert lines[1][-4:] == ["64", "4", "kB", "0.5"]


def test_ratios_by_rounds_win(capsys: Any) -> None:
    known = {"ratios": {"arignote": 1.0, "ddp": 0.75}, "samples_per_second": 64.0}
    rows = (row("arignote", 0.5, **known), row("ddp", 1.0, samples_per_second=32.0))
    show(Report.parse(Report(MACHINE, "abc", rows).text()))
    out = capsys.readouterr().out
    assert out.splitlines()[1].split()[-1] == "0.75"
    assert "/ ddp: this row's time over that one's, the median over blocks of steps; below" in out


def test_units() -> None:
    assert [duration(s) for s in (2.5, 0.0253, 2e-6)] == ["2.5 s", "25.3 ms", "2 µs"]
    assert [amount(n) for n in (0, 999, 4000, 243_860_896, 2 * 10**9)] == [
        "0 B",
        "999 B",
        "4 kB",
        "244 MB",
        "2 GB",
    ]


def test_commit(monkeypatch: Any) -> None:
    assert commit()
    # Installed into somebody else's repository, or without git.
    monkeypatch.setattr(module, "_git", lambda folder, verb, *rest: "" if "ls" in verb else "1a")
    assert commit().startswith("version ")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "")
    assert commit().startswith("version ")


def test_picture(tmp_path: Path) -> None:
    curves = {
        name: [(10, 1e-5, 1e-6, 1e-4), (1000, 1e-3, 1e-3, 2e-3)]
        for name in ("shm:fp32", "auto", "gloo", "copy")
    }
    plot_exchanges(curves, tmp_path / "plot.svg")
    text = (tmp_path / "plot.svg").read_text()
    for words in (*curves, "elements (float32)", "seconds a round"):
        assert f"<!-- {words} -->" in text


def test_targets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"got 'x\.gif', expected a file that ends in \.png"):
        check_target(tmp_path / "x.gif")
    with pytest.raises(UserError, match=r"x\.png cannot be written: no folder '.*none'"):
        check_target(tmp_path / "none" / "x.png")
    (tmp_path / "x.png").mkdir()
    with pytest.raises(UserError, match=r"x\.png cannot be written: Is a directory"):
        plot_exchanges({"a": [(1, 1.0, 1.0, 1.0)]}, tmp_path / "x.png")
