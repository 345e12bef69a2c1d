"""`arignote bench straggler` and `centre` with real processes, and mistakes; nothing is timed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from arignote.bench.rows import CommRow, Report, Row, in_step_bound, saturation, visit_bytes
from arignote.cli import bench_rules, main

SMALL = ("--step-seconds", "0.004", "--json")


@pytest.fixture
def call(capsys: Any, tmp_path: Path, monkeypatch: Any) -> Any:
    """Run a command line in this process: (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["bench", *arguments])
        return caught.value.code, *capsys.readouterr()

    return run


def test_straggler(cli: Any) -> None:
    rules = "bsp,local-sgd:period=4,easgd:period=2"
    ended = cli(
        *("bench", "straggler", "-n", "2", "--rules", rules, "--slow", "3"),
        *("--elements", "1000", "--seconds", "0.3", *SMALL),
    )
    report = json.loads(ended.out)
    assert [row["name"] for row in report["rows"]] == rules.split(",")
    for row in report["rows"]:
        assert (row["kind"], row["workers"], row["elements"]) == ("pace", 2, 1000)
        assert row["kept"] == pytest.approx(sum(row["steps"]) / row["seconds"] / sum(row["alone"]))
        assert all(rate > 0 for rate in row["alone"])
        for rank in range(2):
            parts = sum(row[phase][rank] for phase in ("calc", "comm", "sync", "wait"))
            assert 0 < parts <= row["seconds"]
            # A step lasts at least as long as its sleep.
            assert row["calc"][rank] >= row["steps"][rank] * 0.004 * (3 if rank else 1)
    bsp, local, easgd = report["rows"]
    for row in (bsp, local):
        assert row["bound"] == in_step_bound(2, 3)
        assert row["steps"][0] == row["steps"][1]
    assert "bound" not in easgd or easgd["bound"] is None
    assert "exchanges" not in bsp
    for row, period in ((local, 4), (easgd, 2)):
        for steps, exchanges in zip(row["steps"], row["exchanges"], strict=True):
            assert abs(exchanges - steps / period) < 1
    # All parts of a step are made, by whomever.
    assert sum(easgd["steps"]) % 2 == 0


def check_visits(report: Any, rule: str, elements: int, *, sent: int) -> None:
    rows = [row for row in report["rows"] if "kind" not in row]
    assert [(row["name"], row["workers"]) for row in rows] == [
        (rule, 1),
        ("copy", 1),
        (rule, 2),
        ("copy", 2),
    ]
    for row in rows:
        assert row["elements"] == elements
        assert row["wire_bytes"] == (0 if row["name"] == "copy" else sent)
    streams = [row for row in report["rows"] if row.get("kind") == "stream"]
    assert [row["workers"] for row in streams] == [1, 2]
    for row in streams:
        assert row["copies_per_second"] == 1 / rows[1]["median_seconds"]
        assert row["bytes_per_second"] == row["visits_per_second"] * visit_bytes(elements)
        assert row["of_copy"] == pytest.approx(
            2 * row["visits_per_second"] / row["copies_per_second"]
        )


def test_a_centre_in_shared_memory(cli: Any) -> None:
    options = ("--elements", "5000", "--period", "2", "--seconds", "0.1")
    report = json.loads(cli("bench", "centre", *options, *SMALL).out)
    check_visits(report, "easgd", 5000, sent=0)
    comms = [row for row in report["rows"] if row.get("kind") == "comm"]
    assert [row["name"] for row in comms] == ["easgd:period=2", "bsp, allreduce:fp32"]
    assert all(row["comm_seconds"] > 0 for row in comms)
    assert comms[0]["sync_seconds"] == 0 < comms[1]["sync_seconds"]
    assert {row.get("kind") for row in report["rows"]} == {None, "stream", "comm"}


@pytest.mark.parametrize("mpi_cli", ["mpich"], indirect=True)
def test_a_centre_on_servers(mpi_cli: Any) -> None:
    options = ("--rule", "asgd", "--servers", "1", "--elements", "5000", "--period", "2")
    report = json.loads(mpi_cli("bench", "centre", *options, "--seconds", "0.1", *SMALL).out)
    assert report["machine"]["servers"] == 1
    check_visits(report, "asgd", 5000, sent=2 * 4 * 5000)
    streams = [row for row in report["rows"] if row.get("kind") == "stream"]
    models = [row for row in report["rows"] if row.get("kind") == "model"]
    loads = [row for row in report["rows"] if row.get("kind") == "load"]
    most = max(row["bytes_per_second"] for row in streams)
    assert len(loads) == 2 * len(models)
    for model in models:
        assert model["bytes_per_second"] == most
        assert model["full_at"] == pytest.approx(2 * model["step_seconds"] * most / (2 * 4 * 5000))
    for row in loads:
        assert row["model_load"] == pytest.approx(
            saturation(
                row["workers"],
                5000,
                period=2,
                step_seconds=row["step_seconds"],
                bytes_per_second=most,
            )
        )
        assert row["reached_load"] > 0
        assert 0 <= row["busy"] <= 1
        assert 0 < row["kept"] < 1
    # Steps so short that all workers are at least twice what the servers can take.
    assert loads[-1]["model_load"] >= 2 - 1e-9
    assert models[-1]["measured_at"] > 0


def test_a_person_sees_tables(call: Any, monkeypatch: Any) -> None:
    machine = {"cpu": "X", "cores": 2, "load_before": 0.1, "hosts": 1, "threads_per_worker": 1}
    visits = tuple(Row(name, 100, 2, 1e-3, (1e-3, 1e-3), 0) for name in ("easgd", "copy"))
    comms = (CommRow("easgd:period=10", 100, 2, 1e-3, 0.0), CommRow("bsp", 100, 2, 4e-3, 0.0))
    report = Report({**machine, "mpi": "M", "torch": "2"}, "abc", (*visits, *comms))
    monkeypatch.setattr(bench_rules, "run_bench", lambda *given, **more: report)
    code, out, err = call("centre", "--elements", "100")
    assert (code, err) == (0, "")
    assert out.split()[:2] == ["workers", "visit"]
    monkeypatch.setattr(bench_rules, "run_bench", lambda *given, **more: 3)
    assert call("centre", "--elements", "100") == (3, "", "")
    assert call("straggler") == (3, "", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["straggler", "--slow", "0.5"], "--slow: got 0.5, expected 1 to 1000"),
        (["straggler", "--slow", "nan"], "--slow: got nan, expected 1 to 1000"),
        (["straggler", "--elements", "1,2"], "--elements: got '1,2', expected one number"),
        (["straggler", "--elements", "x"], "--elements: got 'x', expected whole numbers"),
        (["straggler", "--rules", "bps"], "unknown rule 'bps': did you mean 'bsp'?"),
        (["straggler", "--rules", "bsp,,easgd"], "--rules: got 'bsp,,easgd', expected names"),
        (["straggler", "--rules", "easgd:period=0"], "rule easgd: period: got '0'"),
        (["straggler", "--exchange", "shmm"], "unknown exchange 'shmm': did you mean 'shm'?"),
        (["straggler", "--exchange", "asa:int8"], "local-sgd exchanges weights, and int8 only"),
        (["straggler", "--hosts", "a,b", "--exchange", "shm"], "shm is memory of one host"),
        (["straggler", "-n", "1"], "one worker has nothing to exchange: use -n 2 or more"),
        (["straggler", "--servers", "1"], "this bench has no centre for a server to hold"),
        (["straggler", "--step-seconds", "0"], "--step-seconds: got 0, expected more than 0"),
        (["straggler", "--seconds", "-1"], "--seconds: got -1, expected more than 0"),
        (["centre", "--rule", "bsp"], "--rule: bsp has no centre: use easgd or asgd"),
        (["centre", "--rule", "easgd:period=3"], "--rule: name the period by --period"),
        (["centre", "--rule", "esgd"], "unknown rule 'esgd': did you mean 'easgd'?"),
        (["centre", "--period", "0"], "--period: got 0, expected more than 0"),
        (["centre", "--seconds", "1"], "--seconds: got 1, expected at least 4: 4 periods of 10"),
        (["centre", "--step-seconds", "nan"], "--step-seconds: got nan, expected more than 0"),
        (["centre", "--elements", "100000000000"], "need about 3353 GiB for the vectors of 2"),
        (["centre", "--elements", "3", "--servers", "4"], "--servers: got 4 for a vector of 3"),
        (["centre", "-n", "1"], "one worker has nothing to exchange"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    call: Any, arguments: list[str], message: str
) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert message in line


@pytest.mark.parametrize(("verb", "ranks"), [("straggler", 4), ("centre", 3)])
def test_dry_run(call: Any, verb: str, ranks: int) -> None:
    servers = ("--servers", "1") if verb == "centre" else ()
    code, out, err = call(verb, "--dry-run", *servers)
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert f" -m arignote.bench.{verb} " in line
    assert f" -n {ranks} " in line
