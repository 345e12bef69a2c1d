"""What `bench loader` is asked for, and its mistakes."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from arignote.bench.loader_plan import Plan
from arignote.bench.loader_request import LoaderRequest, check_room, parse_loaders, whole
from arignote.cli import bench_loader, main
from arignote.errors import ArignoteError, UserError

REQUEST = LoaderRequest("folder", True, 224, [1, 2], ["torch"], 128, 8.0)


@pytest.fixture
def call(capsys: Any, tmp_path: Path, monkeypatch: Any) -> Any:
    """Run a command line in this process: (code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["bench", "loader", *arguments])
        return caught.value.code, *capsys.readouterr()

    return run


def test_it_travels_as_json() -> None:
    assert LoaderRequest(**json.loads(REQUEST.text())) == REQUEST
    assert REQUEST.batch_bytes == 128 * 3 * 224 * 224 * 4


@pytest.mark.parametrize(("text", "expected"), [("1", [1]), ("2,1", [1, 2]), ("4, 4,64", [4, 64])])
def test_loaders(text: str, expected: list[int]) -> None:
    assert parse_loaders(text) == expected


def test_limits_themselves_are_allowed() -> None:
    assert [whole("--size", size) for size in (1, 256)] == [1, 256]


@pytest.mark.parametrize(
    ("seconds", "rounds", "turn", "starts"),
    [(8.0, 8, 1.0, 5), (0.3, 3, 0.1, 1), (200.0, 100, 2.0, 5)],
)
def test_turns(seconds: float, rounds: int, turn: float, starts: int) -> None:
    plan = Plan(replace(REQUEST, seconds=seconds), None)  # type: ignore[arg-type]
    assert (plan.rounds, plan.turn_seconds, plan.starts) == (rounds, pytest.approx(turn), starts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loaders", "0"], "--loaders: got '0', expected whole numbers from 1 to 64"),
        (["--loaders", "1,x"], "--loaders: got 'x', expected whole numbers"),
        (["--loaders", ""], "--loaders: got '', expected whole numbers"),
        (["--loaders", "-1"], "--loaders: got '-1', expected whole numbers"),
        (["--vs", "dali"], "unknown peer 'dali': known: torch"),
        (["--size", "257"], "--size: got 257, expected 1 to 256: samples are cut out of what is"),
        (["--size", "0"], "--size: got 0, expected 1 to 256"),
        (["--batch-size", "0"], "--batch-size: got 0, expected 1 to 65536"),
        (["--images", "0"], "--images: got 0, expected 1 to 1000000"),
        (["--seconds", "0"], "--seconds: got 0, expected more than 0"),
        (["--seconds", "nan"], "--seconds: got nan, expected more than 0"),
        (["--data", "none"], "none does not exist: name a folder of images, or a tar of one"),
        (["--data", "."], "has neither a folder train nor ILSVRC2012_img_train.tar"),
        (["--data", ".", "--class-from-name"], "holds no .jpg, .jpeg, .png file"),
        (["--class-from-name"], "--class-from-name says how --data is read: name it, or leave"),
        (["--batch-size", "x"], "Invalid value for '--batch-size'"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    call: Any, monkeypatch: Any, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(bench_loader, "_run", None)
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert message in line


def test_batches_that_do_not_fit(monkeypatch: Any) -> None:
    check_room(REQUEST)
    memory = SimpleNamespace(available=2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    message = r"--batch-size: batches of 128 need 1\.5 GiB ahead, and 1\.0 GiB are free"
    with pytest.raises(UserError, match=message):
        check_room(REQUEST)
    memory.available = 2**33
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**26))
    with pytest.raises(UserError, match=r"in /dev/shm, where 368 MiB are needed and 64 MiB are"):
        check_room(REQUEST)
    check_room(replace(REQUEST, peers=[]))


@pytest.mark.parametrize(
    ("script", "ending"),
    [("kill -9 $$", "by signal 9"), ("echo words; exit 0", "without a report")],
)
def test_a_program_that_ends_early(
    monkeypatch: Any, tmp_path: Path, script: str, ending: str
) -> None:
    run_instead(monkeypatch, tmp_path, script)
    with pytest.raises(ArignoteError, match=f"the process that measures ended {ending}"):
        bench_loader._run(REQUEST)


def test_a_program_that_fails_and_leaves_a_child(monkeypatch: Any, tmp_path: Path) -> None:
    run_instead(monkeypatch, tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; exit 3")
    assert bench_loader._run(REQUEST) == 3
    # Whoever adopted it may not have heard yet that it is gone.
    with suppress(psutil.NoSuchProcess):
        left = psutil.Process(int((tmp_path / "pid").read_text()))
        assert left.status() == psutil.STATUS_ZOMBIE


def run_instead(monkeypatch: Any, folder: Path, script: str) -> None:
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
