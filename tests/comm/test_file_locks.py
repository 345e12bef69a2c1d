"""Locks between threads and processes, which the dead cannot keep."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from arignote.comm.base import World
from arignote.comm.file_locks import FileLocks
from arignote.comm.shared_memory import SharedRows
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import LostWorkerError

CHILD = """
import mmap, os, sys, time
import numpy as np
from arignote.comm.file_locks import FileLocks
from arignote.comm.threads import thread_worlds
path, rank, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
descriptor = os.open(path, os.O_RDWR)
cells = np.frombuffer(mmap.mmap(descriptor, 8192), dtype=np.int32)
locks = FileLocks(descriptor, cells[1024:], thread_worlds(3)[rank])
if how == "adds":
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(500):
        with locks.held(5, "it"):
            value = int(cells[0])
            cells[1] += 1
            cells[0] = value + 1
else:
    with locks.held(0, "it"):
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def shared() -> Iterator[tuple[str, np.ndarray]]:
    """(the path of a file in memory, its content)."""
    made = os.memfd_create("test")
    os.ftruncate(made, 8192)
    yield f"/proc/{os.getpid()}/fd/{made}", np.frombuffer(mmap.mmap(made, 8192), dtype=np.int32)
    os.close(made)


def start(path: str, rank: int, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, path, str(rank), how]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


def ready(child: subprocess.Popen[str]) -> None:
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"


def end(child: subprocess.Popen[str]) -> None:
    child.kill()
    child.communicate()


def test_processes_exclude_each_other(shared: tuple[str, np.ndarray]) -> None:
    path, cells = shared
    children = [start(path, rank, "adds") for rank in range(2)]
    try:
        for child in children:
            ready(child)
        for child in children:
            child.communicate("go\n", timeout=60)
    finally:
        for child in children:
            end(child)
    assert cells[:2].tolist() == [1000, 1000]
    assert not cells[1024:].any()


def test_a_holder_that_stops_is_named_and_one_that_is_killed_lets_go(
    shared: tuple[str, np.ndarray],
) -> None:
    path, cells = shared
    world = thread_worlds(3, timeout_seconds=0.3)[2]
    locks = FileLocks(os.open(path, os.O_RDWR), cells[1024:], world)
    child = start(path, 1, "holds")
    try:
        ready(child)
        child.send_signal(signal.SIGSTOP)
        # Another lock is free.
        with locks.held(1, "it"):
            pass
        message = r"^worker 1 \(host .*, pid \d+\) has not let go of the vase for 0\.3 s: look at"
        with pytest.raises(LostWorkerError, match=message), locks.held(0, "the vase"):
            pass
        os.kill(child.pid, signal.SIGKILL)
        begun = time.monotonic()
        world.timeout_seconds = 20.0
        with locks.held(0, "the vase"):
            assert time.monotonic() - begun < 10
    finally:
        end(child)


def test_a_holder_that_has_not_said_who_it_is(shared: tuple[str, np.ndarray]) -> None:
    path, cells = shared
    worlds = thread_worlds(2, timeout_seconds=0.05)
    first, second = (FileLocks(os.open(path, os.O_RDWR), cells[1024:], world) for world in worlds)
    with first.held(0, "it"):
        cells[1024] = 0
        with (
            pytest.raises(
                LostWorkerError, match=r"^a worker has not let go of it for 0\.05 s: look"
            ),
            second.held(0, "it"),
        ):
            pass


def test_threads_exclude_each_other() -> None:
    def work(world: World) -> list[int]:
        rows = SharedRows(world, 2, torch.int64, rows=2, locks=2)
        cells = rows.rows()
        world.meet([], "all have it")
        for turn in range(500):
            with rows.locks.held(turn % 2, "it"):
                value = int(cells[turn % 2, 0])
                time.sleep(0)
                cells[turn % 2, 0] = value + 1
        world.meet([], "all are through")
        return [int(cells[row, 0]) for row in range(2)]

    assert run_threads(thread_worlds(4), work) == [[1000, 1000]] * 4


def test_an_error_in_the_block_lets_go() -> None:
    def work(world: World) -> None:
        locks = SharedRows(world, 1, torch.int64, rows=1, locks=1).locks
        with pytest.raises(KeyError), locks.held(0, "it"):
            raise KeyError
        world.meet([], "both have failed")
        with locks.held(0, "it"):
            pass

    run_threads(thread_worlds(2), work)


def test_as_many_locks_as_one_likes() -> None:
    def work(world: World) -> None:
        rows = SharedRows(world, 3, torch.float32, rows=1, locks=5000)
        with rows.locks.held(4999, "it"):
            rows.row(0)[2] += 1
        world.meet([], "both were there")
        assert rows.row(0).tolist() == [0, 0, 2]
        rows.close()
        rows.close()

    run_threads(thread_worlds(2), work)


def test_no_file_stays_open() -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def closed(world: World) -> None:
        SharedRows(world, 10, torch.float32, locks=1).close()

    def forgotten(world: World) -> None:
        SharedRows(world, 10, torch.float32, locks=1)

    def without_locks(world: World) -> None:
        SharedRows(world, 10, torch.float32)

    run_threads(thread_worlds(2), closed)
    before = open_files()
    for work in (closed, forgotten, without_locks):
        run_threads(thread_worlds(2), work)
        assert open_files() <= before
