"""Every world passes the same checks: serial, threads, and MPI under each of the two wheels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds

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


@pytest.mark.parametrize("size", [2, 3, 4])
def test_mpi(mpi_cli: Any, size: int) -> None:
    ended = mpi_cli("run", "-n", str(size), str(PROGRAMS / "world_checks.py"))
    expected = "MPICH" if "ARIGNOTE_MPIRUN" in mpi_cli.environment else "Open MPI"
    assert f"all checks passed with {size} workers: {expected}" in ended.out


def test_one_process_without_mpi(cli: Any) -> None:
    ended = cli("run", "-n", "1", str(PROGRAMS / "world_checks.py"))
    assert "all checks passed with 1 workers: none" in ended.out
