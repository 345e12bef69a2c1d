"""Every world passes the same checks: serial, threads, and MPI under each of the two wheels."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from arignote.comm.base import World
from arignote.comm.script import Script
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import LostWorkerError

PROGRAMS = Path(__file__).parents[1] / "programs"
sys.path.insert(0, str(PROGRAMS))
import world_checks  # noqa: E402


@pytest.mark.parametrize("check", world_checks.CHECKS, ids=lambda check: check.__name__)
def test_serial(check: Any) -> None:
    check(SerialWorld())


@pytest.mark.parametrize("check", world_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_threads(check: Any, size: int) -> None:
    run_threads(thread_worlds(size), check)


@pytest.mark.parametrize("check", world_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("size", [1, 3])
def test_threads_with_a_script(check: Any, size: int) -> None:
    run_threads(thread_worlds(size, script=Script(seed=size)), check)


def test_probe_passes_nobody_over() -> None:
    worlds = thread_worlds(3)
    for sender in worlds[1:]:
        for _ in range(2):
            sender.send(torch.ones(1), 0, 1)
    found = []
    while (source := worlds[0].probe(1)) is not None:
        found.append(source)
        worlds[0].wait([worlds[0].receive(torch.empty(1), source, 1)], "a message")
    assert found == [1, 2, 1, 2]


def test_who_is_missing_at_the_end_of_a_meeting() -> None:
    def work(world: World) -> None:
        meetings = [world.open_meeting([1.0])]
        if world.rank != 1:
            meetings.append(world.open_meeting([2.0]))
        for turn, meeting in enumerate(meetings):
            assert world.close_meeting(meeting, f"step {turn}").tolist() == [3.0]

    with pytest.raises(LostWorkerError, match=r"^worker 1 did not come to step 1 within 0\.2 s$"):
        run_threads(thread_worlds(3, timeout_seconds=0.2), work)


# Services want three workers; codecs are tried with three only (exchange_checks.py); a trial of
# memory is made once under each MPI.
WHAT = {
    2: r"12 checks of the world, a trial of memory, \d\d? exchanges",
    3: r"12 checks of the world, services, \d\d exchanges",
    4: r"12 checks of the world, a trial of memory, \d\d? exchanges",
}


# Not each size under each: what an MPI does differently it does at 3.
@pytest.mark.parametrize(
    ("mpi_cli", "size"),
    [("openmpi", 2), ("openmpi", 3), ("mpich", 3), ("mpich", 4)],
    indirect=["mpi_cli"],
)
def test_mpi(mpi_cli: Any, size: int) -> None:
    ended = mpi_cli("run", "-n", str(size), str(PROGRAMS / "mpi_checks.py"), timeout=220)
    library = "MPICH" if "ARIGNOTE_MPIRUN" in mpi_cli.environment else "Open MPI"
    assert re.search(rf"^checked with {size} workers, {library}.*: {WHAT[size]}$", ended.out, re.M)


def test_one_process_without_mpi(cli: Any) -> None:
    ended = cli("run", "-n", "1", str(PROGRAMS / "mpi_checks.py"))
    assert ended.out == "checked with 1 workers, none (one worker): 12 checks of the world\n"
