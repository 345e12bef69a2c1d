"""`arignote bench` with real processes, and its mistakes. Nothing here depends on the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from arignote.bench.exchange import layer_shapes
from arignote.bench.request import StepRequest
from arignote.bench.step import measure
from arignote.cli import main
from arignote.comm.crew import form_crew
from arignote.comm.serial import SerialWorld
from arignote.config.load import resolve
from arignote.errors import UserError

ROW = {"name", "elements", "workers", "median_seconds", "spread", "wire_bytes"}
PROGRAM = str(Path(__file__).parents[1] / "programs/bench_peers.py")


@pytest.fixture
def call(capsys: Any, tmp_path: Path, monkeypatch: Any) -> Any:
    """Run a command line in this process: (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        return caught.value.code, *capsys.readouterr()

    return run


def check_row(row: dict[str, Any], *more: str) -> None:
    assert set(row) == ROW | set(more)
    low, high = row["spread"]
    assert 0 < low <= row["median_seconds"] <= high


def test_exchange(cli: Any) -> None:
    options = ("-n", "2", "--elements", "1000,3000", "--seconds", "0.05", "--plot", "plot.png")
    report = json.loads(cli("bench", "exchange", *options, "--json").out)
    assert set(report) == {"machine", "commit", "rows"}
    assert report["machine"]["hosts"] == 1
    assert report["commit"]
    rows = {(row["name"], row["elements"]): row for row in report["rows"]}
    assert len(rows) == len(report["rows"])
    names = {"allreduce:fp32", "asa:fp32", "shm:fp32", "auto", "mpi", "gloo", "copy"}
    assert set(rows) == {(name, size) for name in names for size in (1000, 3000)}
    for row in report["rows"]:
        check_row(row, *(["chosen"] if row["name"] == "auto" else []))
        assert row["workers"] == 2
    assert rows["auto", 1000]["chosen"] in names
    sent = {name: rows[name, 1000]["wire_bytes"] for name in names - {"auto"}}
    assert sent == {"copy": 0, "shm:fp32": 0} | dict.fromkeys(
        ["allreduce:fp32", "asa:fp32", "mpi", "gloo"], 4000
    )
    assert (cli.folder / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("mpi_cli", ["mpich"], indirect=True)
def test_exchange_as_a_table(mpi_cli: Any) -> None:
    options = ("--elements", "5000", "--seconds", "0.05", "--exchanges", "shm,asa", "--vs", "mpi")
    ended = mpi_cli("bench", "exchange", *options)
    lines = [line.split() for line in ended.out.splitlines()]
    assert lines[0][:2] == ["elements", "exchange"]
    assert lines[1][:2] == ["5,000", "shm:fp32"]
    assert [line[0] for line in lines[2:5]] == ["asa:fp32", "mpi", "copy"]
    assert "copy: the floor" in ended.out
    assert "5,000 elements" in ended.err


def test_step(cli: Any) -> None:
    options = ("--model", "digits-mlp", "-n", "2", "--batch-size", "8", "--steps", "7", "--json")
    report = json.loads(cli("bench", "step", *options).out)
    assert set(report) == {"machine", "commit", "rows"}
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["arignote", "ddp", "forward_backward", "one_worker"]
    for name, row in rows.items():
        more = ["chosen"] if name == "arignote" else []
        check_row(row, "samples_per_second", "ratios", *more)
        assert set(row["ratios"]) == set(rows)
        assert row["ratios"][name] == 1
        assert row["elements"] == 9610
        assert row["workers"] == (1 if name == "one_worker" else 2)
        samples = 8 * row["workers"]
        assert row["samples_per_second"] == pytest.approx(samples / row["median_seconds"])
    assert rows["ddp"]["wire_bytes"] == 4 * 9610
    assert rows["forward_backward"]["wire_bytes"] == rows["one_worker"]["wire_bytes"] == 0


def test_peers_compute_the_mean(cli: Any) -> None:
    assert "peers are right" in cli("run", "-n", "3", PROGRAM).out


def test_step_of_a_model_of_no_torch(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("class Mine:\n    pass\n")
    settings = resolve([("", {"run": {"model": "mine.py:Mine", "data": "digits"}})])
    with pytest.raises(UserError, match=r"model mine\.py:Mine is no arignote\.Model"):
        next(measure(StepRequest([], 1), settings, form_crew(SerialWorld(), 0)))


def test_a_step_of_more_samples_than_there_are() -> None:
    named = {"run": {"model": "digits-mlp", "data": "digits"}, "train": {"batch_size": 1438}}
    with pytest.raises(UserError, match="a step takes 1 x 1438 samples, but the data has 1437"):
        next(measure(StepRequest([], 1), resolve([("", named)]), form_crew(SerialWorld(), 0)))


def test_step_of_one_worker_beside_a_plain_loop(cli: Any) -> None:
    options = ("--model", "digits-cnn", "-n", "1", "--vs", "none", "--steps", "2", "--json")
    report = json.loads(cli("bench", "step", *options, "--data", "digits").out)
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["arignote", "forward_backward", "one_worker"]
    assert {row["workers"] for row in rows.values()} == {1}
    assert {row["wire_bytes"] for row in rows.values()} == {0}
    # One block of two steps: the ratio of their sums.
    ours, plain = rows["arignote"], rows["one_worker"]
    assert ours["ratios"]["one_worker"] == pytest.approx(1 / plain["ratios"]["arignote"])
    medians = ours["median_seconds"] / plain["median_seconds"]
    assert ours["ratios"]["one_worker"] == pytest.approx(medians)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["exchange", "--elements", "1e3"], "--elements: got '1e3', expected whole numbers"),
        (["exchange", "--exchanges", "shmm"], "unknown exchange 'shmm'"),
        (["exchange", "--hosts", "a,b", "--exchanges", "shm"], "shm is memory of one host"),
        (["exchange", "--vs", "nccl"], "unknown peer 'nccl': known: gloo, mpi"),
        (["exchange", "-n", "1"], "one worker has nothing to exchange: use -n 2 or more"),
        (["exchange", "--seconds", "0"], "--seconds: got 0, expected more than 0"),
        (["exchange", "--seconds", "nan"], "--seconds: got nan, expected more than 0"),
        (["exchange", "--elements", "100000000000"], "need about 4470 GiB for the vectors of 2"),
        (["exchange", "--plot", "x.gif"], "got 'x.gif', expected a file that ends in .png"),
        (["exchange", "--plot", "no/x.png"], "plot no/x.png cannot be written: no folder"),
        (["exchange", "-c", "none.toml"], "no config file 'none.toml'"),
        (["step", "--model", "mlp-57m"], "unknown model 'mlp-57m': did you mean 'mlp-56m'"),
        (["step", "--vs", "horovod"], "unknown peer 'horovod': known: ddp"),
        (["step", "--steps", "0"], "--steps: got 0, expected more than 0"),
        (["step", "--batch-size", "0"], "train.batch_size: got 0"),
        (["step", "--rule", "bps"], "unknown rule 'bps'"),
        (["step", "--exchange", "sm"], "unknown exchange 'sm'"),
        (["step", "--set", "train.precision=bf16"], "got bf16, but bench step compares fp32 alone"),
        (["step", "--model", "cifar10-cnn"], "cifar10-cnn brings no data of its own"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    call: Any, arguments: list[str], message: str
) -> None:
    code, out, err = call("bench", *arguments)
    assert (code, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert message in line


@pytest.mark.parametrize("verb", ["exchange", "step"])
def test_dry_run(call: Any, verb: str) -> None:
    code, out, err = call("bench", verb, "--dry-run", "-n", "3")
    assert (code, err) == (0, "")
    (line,) = out.splitlines()
    assert f" -m arignote.bench.{verb} " in line
    assert " -n 3 " in line


def test_help(call: Any) -> None:
    code, out, _ = call("bench", "--help")
    assert code == 0
    assert "\n  exchange " in out
    assert "\n  step " in out


def test_layers_cover_the_vector() -> None:
    for elements in (1, 2, 5, 1000, 4096**2, 60_965_224):
        shapes = layer_shapes(elements)
        assert sum(shape.numel() for shape in shapes) == elements
        assert all(side <= 4096 for shape in shapes if len(shape) == 2 for side in shape)
