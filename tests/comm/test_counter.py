"""Every number once, whoever asks and wherever the counter lies.

Over MPI: tests/common/test_every_world.py, whose program checks services too.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from arignote.comm.base import World
from arignote.comm.counter import Cells, RemoteCounter, SharedCounter, open_counter
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import UserError

PROGRAMS = Path(__file__).parents[1] / "programs"
sys.path.insert(0, str(PROGRAMS))
import service_checks  # noqa: E402


def cells() -> Cells:
    return Cells(torch.zeros(2, dtype=torch.int64))


def test_limits() -> None:
    counter = cells()
    assert [counter.take(3) for _ in range(5)] == [0, 1, 2, None, None]
    assert counter.take(2) is None
    assert counter.take(10, first=7) == 7
    assert counter.take(10, first=2) == 8
    assert counter.read() == (9, False)
    assert counter.take(0) is None


@pytest.mark.parametrize(
    ("taken", "multiple", "whole"), [(0, 3, 0), (1, 3, 3), (3, 3, 3), (4, 3, 6), (5, 1, 5)]
)
def test_stop_makes_a_step_whole(taken: int, multiple: int, whole: int) -> None:
    counter = cells()
    for _ in range(taken):
        counter.take(100)
    counter.stop(multiple)
    while counter.take(100) is not None:
        pass
    assert counter.read() == (whole, True)
    counter.stop(100)
    assert counter.take(100) is None


def test_a_limit_below_the_stop_still_counts() -> None:
    counter = cells()
    counter.take(4)
    counter.stop(4)
    assert [counter.take(2), counter.take(2)] == [1, None]
    assert counter.read() == (2, True)


@pytest.mark.parametrize("kind", service_checks.KINDS)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_threads(kind: Any, size: int) -> None:
    run_threads(thread_worlds(size), lambda world: service_checks.check_numbers(world, kind))
    run_threads(thread_worlds(size), lambda world: service_checks.check_stop(world, kind))


def test_which_counter() -> None:
    assert isinstance(open_counter(SerialWorld()), Cells)

    def kind(world: World) -> Any:
        counter = open_counter(world)
        counter.close()
        return type(counter)

    assert run_threads(thread_worlds(2), kind) == [SharedCounter] * 2
    assert run_threads(thread_worlds(3, hosts=["a", "b", "a"]), kind) == [RemoteCounter] * 3
    wait_for_no_service()


def wait_for_no_service() -> None:
    deadline = time.monotonic() + 5
    while any(thread.name == "service" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_mpi_of_one_thread() -> None:
    (world,) = thread_worlds(1)
    world.many_threads = False
    with pytest.raises(UserError, match="threads serves one thread only, and workers on several"):
        RemoteCounter(world)
