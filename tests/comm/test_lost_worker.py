"""Nobody waits for ever: whoever does not come is named, and nothing is left running."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from arignote.comm.threads import run_threads, thread_worlds
from arignote.comm.watchdog import Watchdog
from arignote.errors import LostWorkerError, UserError

PROGRAM = str(Path(__file__).parents[1] / "programs" / "lost_worker.py")


@pytest.mark.parametrize(("how", "size"), [("sleeps", 3), ("stopped", 2)])
def test_missing_worker_is_named(mpi_cli: Any, how: str, size: int) -> None:
    ended = mpi_cli("run", "-n", str(size), PROGRAM, how, code=1, timeout=40)
    (line,) = ended.err.strip().splitlines()
    here = ", ".join(str(rank) for rank in range(size) if rank != 1)
    assert line.startswith("arignote: error: worker 1 (host ")
    assert f"did not come to step 17 within 3 s (here: {here})" in line


def test_worker_stopped_inside_an_exchange(mpi_cli: Any) -> None:
    ended = mpi_cli("run", "-n", "2", PROGRAM, "stopped-in-sum", code=1, timeout=40)
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("arignote: error: worker 1 (host ")
    assert "did not finish the exchange of step 17 within 3 s though all workers had" in line
    assert line.endswith("(here: 0)")


def test_uncaught_error_is_told_once_with_rank_host_and_traceback(mpi_cli: Any) -> None:
    ended = mpi_cli("run", "-n", "3", PROGRAM, "raises", code=1, timeout=40)
    assert ended.err.count("Traceback (most recent call last)") == 1
    assert ended.err.startswith("arignote: worker 1 on ")
    assert ended.err.strip().endswith("RuntimeError: a fault of the model's own")


def test_worker_that_just_exits_ends_the_run(mpi_cli: Any) -> None:
    ended = mpi_cli("run", "-n", "2", PROGRAM, "exits", code=7, timeout=40)
    assert "Traceback" not in ended.err


def test_threads_name_who_did_not_come() -> None:
    def work(world: Any) -> None:
        if world.rank != 1:
            world.meet([], "step 5")

    with pytest.raises(LostWorkerError, match=r"worker 1 did not come to step 5 within 0\.2 s"):
        run_threads(thread_worlds(3, timeout_seconds=0.2), work)


def test_watchdog_barks_only_after_the_deadline() -> None:
    barks: list[str] = []
    dog = Watchdog(barks.append, poll_seconds=0.01)
    with dog.guard("a quick call", 5.0):
        time.sleep(0.05)
    assert barks == []
    with dog.guard("a slow call", 0.05):
        deadline = time.monotonic() + 5
        while not barks and time.monotonic() < deadline:
            time.sleep(0.01)
    assert barks == ["a slow call"]
    dog.close()


def test_world_of_the_wrong_size(monkeypatch: pytest.MonkeyPatch) -> None:
    import subprocess
    import sys

    # As when mpirun and mpi4py belong to different MPIs: each process is a world of one.
    code = "from arignote.comm.mpi import join_mpi; join_mpi(expected_size=2, timeout_seconds=5)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert UserError.__name__ in done.stderr
    assert "2 workers were started but MPI formed a world of 1" in done.stderr
