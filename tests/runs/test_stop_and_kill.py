"""Stopped, interrupted, killed: saved where it can be, and nothing left running."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from long_run import LONG, finish, start


# Two are like three here: how many there are matters to the exchange, which has its own tests.
@pytest.mark.parametrize("workers", [1, 3])
def test_sigterm_saves_and_resume_is_exact(
    cli: Any, wait_until: Any, reached: Any, summary_of: Any, workers: int
) -> None:
    length = ("--epochs", "50", "--steps", "60")
    cli("train", "cifar10-cnn", "-n", str(workers), *LONG, *length, "--out", "straight")
    process = start(cli, wait_until, reached, workers, "--epochs", "50")
    process.send_signal(signal.SIGTERM)
    err = finish(process, 10)
    assert process.returncode == 128 + signal.SIGTERM
    stopped = summary_of(cli.folder / "run")
    assert stopped["status"] == "stopped"
    assert f"stopped by SIGTERM, saved at step {stopped['steps']}; go on with: arignote" in err
    if stopped["steps"] > 60:
        pytest.skip("this machine was too fast: the run had passed step 60 before the signal")
    cli("train", "--resume", "run", *length)
    resumed = summary_of(cli.folder / "run")
    straight = summary_of(cli.folder / "straight")
    assert resumed["status"] == "finished"
    assert resumed["weights_sha256"] == straight["weights_sha256"]


# Pairs are enough: to its workers the launcher passes on the same signal, whichever it got.
@pytest.mark.parametrize(
    ("mpi_cli", "number"),
    [("openmpi", signal.SIGINT), ("mpich", signal.SIGUSR1)],
    indirect=["mpi_cli"],
)
def test_other_signals_stop_too(
    mpi_cli: Any, wait_until: Any, reached: Any, summary_of: Any, number: int
) -> None:
    process = start(mpi_cli, wait_until, reached, 2, "--epochs", "50")
    process.send_signal(number)
    err = finish(process, 10)
    assert process.returncode == 128 + number
    assert summary_of(mpi_cli.folder / "run")["status"] == "stopped"
    assert f"stopped by {signal.Signals(number).name}, saved at step" in err


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_worker_ends_the_run_and_is_named(
    mpi_cli: Any, wait_until: Any, reached: Any, worker_processes: Any, victim: int
) -> None:
    before = segments()
    process = start(mpi_cli, wait_until, reached, 2, "--epochs", "50")
    peer = peers(mpi_cli.folder / "run")[victim]
    # What an MPI shares between workers, it leaves behind when they are killed.
    assert segments() - before
    os.kill(peer["pid"], signal.SIGKILL)
    err = finish(process, 10)
    assert process.returncode == 1
    assert worker_processes() == []
    assert segments() - before == set()
    lines = err.strip().splitlines()
    wanted = f"worker {victim} (host {peer['host']}, pid {peer['pid']}) was killed by SIGKILL"
    assert wanted in lines[-1]
    assert "go on with: arignote train --resume run" in lines[-1]
    if victim == 1:
        mpi_cli("train", "--resume", "run", "--steps", "45")


def segments() -> set[str]:
    """Shared memory that carries the name of an MPI."""
    shared = Path("/dev/shm").iterdir()
    return {p.name for p in shared if p.name.startswith(("mpich_shm", "sm_segment"))}


def peers(folder: Path) -> list[dict[str, Any]]:
    from arignote.recorder.events import read_events

    found: list[dict[str, Any]] = next(
        e["peers"] for e in read_events(folder) if e["event"] == "start"
    )
    return found


def test_stopped_worker_is_named_and_the_run_ends(
    cli: Any, wait_until: Any, reached: Any, worker_processes: Any
) -> None:
    process = start(
        *(cli, wait_until, reached, 2, "--epochs", "50"),
        *("--set", "train.timeout_seconds=2.0"),
    )
    peer = peers(cli.folder / "run")[1]
    os.kill(peer["pid"], signal.SIGSTOP)
    err = finish(process, 25)
    assert process.returncode == 1
    assert worker_processes() == []
    # Wherever it was stopped: before the step or within its exchange.
    assert f"worker 1 (host {peer['host']}, pid {peer['pid']}) did not " in err


def test_nothing_outlives_a_killed_launcher(
    mpi_cli: Any, wait_until: Any, reached: Any, worker_processes: Any
) -> None:
    process = start(mpi_cli, wait_until, reached, 2, "--epochs", "50")
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    gone = lambda: not any(p.is_running() and p.status() != "zombie" for p in family)  # noqa: E731
    wait_until(gone, 10, "processes of a killed launcher")
    assert worker_processes() == []


def test_second_signal_ends_at_once(
    cli: Any, wait_until: Any, reached: Any, worker_processes: Any
) -> None:
    process = start(cli, wait_until, reached, 2, "--epochs", "50")
    peer = peers(cli.folder / "run")[1]
    # One worker cannot come to the step after which all stop.
    os.kill(peer["pid"], signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    err = finish(process, 6)
    assert process.returncode == 130
    assert "stopped by SIGINT" in err
    assert worker_processes() == []
