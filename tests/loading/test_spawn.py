"""A server that MPI starts gets all that a child has; here a process without MPI is its keeper."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from arignote.errors import LoaderError
from arignote.loading import process, spawn
from arignote.loading.pool import Want
from arignote.loading.process import ServerProcess

# As `python -m arignote.loading.keeper`, but that it has no MPI to part from.
KEEPER = """
import sys
from arignote.loading import keeper
keeper.part = lambda: None
keeper.main(sys.argv[-1])
"""


@pytest.fixture
def keepers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Those that `by_mpi` has had started; none takes the end of its server for an error."""
    begun: list[subprocess.Popen[bytes]] = []

    def start(command: Sequence[str], what: str, **_: Any) -> None:
        assert Path(command[0]).name == "env" and sys.executable in command
        assert what == "the server of the loaders of worker 1"
        begun.append(subprocess.Popen([sys.executable, "-c", KEEPER, command[-1]]))

    monkeypatch.setattr(spawn, "spawn", start)
    yield begun
    assert [keeper.wait(10) for keeper in begun] == [0] * len(begun)


def test_a_pool_whose_server_is_no_child(keepers: Any, open_pool: Any) -> None:
    server = ServerProcess(spawn.by_mpi(timeout_seconds=60.0, worker=1))
    data, pool = open_pool("synthetic:3x8x8,10,train=50,validation=20", "crop", server=server)
    wants = [Want("train", 2, np.arange(at, at + 8)) for at in (0, 8, 16)]
    for number, want in enumerate(wants):
        arrays = pool.take(want)
        expected = data.train_batch(want.indices, seed=5, epoch=2)
        assert np.array_equal(arrays.inputs, expected.inputs.numpy())
        pool.release()
        (child,) = psutil.Process(keepers[-1].pid).children()
        assert child.cpu_affinity() == sorted(os.sched_getaffinity(0))
        # First a loader, then the server.
        victim = child.children()[0] if number == 0 else child
        if number < 2:
            os.kill(victim.pid, signal.SIGKILL)
            psutil.wait_procs([victim], 10)
    assert pool.loaders.restarts >= 1
    assert len(keepers) == 2


def test_who_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "spawn", lambda *_, **__: None)
    with pytest.raises(
        LoaderError,
        match=r"the server of the loaders of worker 3 was started by MPI, but has not co",
    ):
        ServerProcess(spawn.by_mpi(timeout_seconds=0.1, worker=3))


def test_another_user_is_not_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    callers = []

    def call(command: Sequence[str], *_: Any, **__: Any) -> None:
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        caller.connect(f"\0{command[-1]}")
        callers.append(caller)

    monkeypatch.setattr(spawn, "spawn", call)
    monkeypatch.setattr(os, "getuid", lambda: -1)
    with pytest.raises(LoaderError, match="has not come within"):
        ServerProcess(spawn.by_mpi(timeout_seconds=0.2, worker=0))
    (caller,) = callers
    with caller:
        assert caller.recv(10) == b""


def test_a_server_that_does_not_end_is_killed_and_no_keeper(
    keepers: Any, open_pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Open MPI calls a run failed whose keeper was killed, though it is finished."""
    monkeypatch.setattr(process, "_CLOSE_SECONDS", 0.1)
    server = ServerProcess(spawn.by_mpi(timeout_seconds=60.0, worker=1))
    _, pool = open_pool("synthetic:3x8x8,10,train=50,validation=20", server=server)
    pool.take(Want("train", 0, np.arange(8)))
    (child,) = psutil.Process(keepers[0].pid).children()
    child.suspend()
    pool.loaders.close()
    assert keepers[0].wait(10) == 0
    assert not child.is_running()


def test_a_keeper_that_does_not_end_is_killed(
    keepers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(spawn, "_END_SECONDS", 0.1)
    server = ServerProcess(spawn.by_mpi(timeout_seconds=60.0, worker=1))
    keeper = keepers.pop()
    os.kill(keeper.pid, signal.SIGSTOP)
    server.close()
    assert not psutil.pid_exists(keeper.pid)
    # Its code was taken by psutil, for here it is a child.
    keeper.wait(10)


def test_what_tells_workers_to_stop_ends_no_keeper(keepers: Any, open_pool: Any) -> None:
    """Open MPI passes SIGUSR1 on to all that it has started: a keeper's end would end the run."""
    server = ServerProcess(spawn.by_mpi(timeout_seconds=60.0, worker=1))
    _, pool = open_pool("synthetic:3x8x8,10,train=50,validation=20", server=server)
    pool.take(Want("train", 0, np.arange(8)))
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(keepers[0].pid, number)
    pool.release()
    pool.take(Want("train", 0, np.arange(8, 16)))
    assert keepers[0].poll() is None and len(keepers) == 1
    (child,) = psutil.Process(keepers[0].pid).children()
    assert os.getsid(child.pid) == child.pid
