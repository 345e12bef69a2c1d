"""The server of a worker's loaders, started by MPI: `loading.start = "mpi_spawn"`.

It is no child of the worker, so its end of their channel goes to it through a socket. MPI starts a
keeper (`keeper.py`); its parent is the launcher of MPI, which ends it with the job.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress

import psutil

from arignote.comm.spawn import spawn
from arignote.errors import LoaderError
from arignote.loading.channel import peer_of, send
from arignote.loading.process import Process, Start

_FOR_PYTHON = ("PYTHONPATH", "LD_LIBRARY_PATH", "MPI4PY_LIBMPI")
"""What the keeper needs to begin; all other variables come through the socket."""
_END_SECONDS = 60.0
"""For a keeper to end once its server has: a machine may have much else to do."""


def by_mpi(*, timeout_seconds: float, worker: int) -> Start:
    """How `ServerProcess` has its server started by MPI, once that is joined.

    Args:
        worker: its rank.
    """
    what = f"the server of the loaders of worker {worker}"

    def start(channel: socket.socket, environment: dict[str, str]) -> Process:
        address = f"arignote-{secrets.token_hex(16)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            # No file: its name is of the kernel's own list, and goes with it.
            listener.bind(f"\0{address}")
            listener.listen()
            spawn(_command(address), what, timeout_seconds=timeout_seconds, rank=worker)
            keeper, process = _accept(listener, what, timeout_seconds)
        with keeper:
            try:
                return _Kept(process, _hand_over(keeper, channel, environment))
            except OSError as error:
                raise LoaderError(
                    f"{what} was started by MPI and has ended at once ({error.strerror}): leave "
                    "out loading.start"
                ) from None

    return start


class _Kept:
    """A keeper; it ends with its server."""

    def __init__(self, process: int, stdin: int) -> None:
        self.pid = process
        self.stdin = os.fdopen(stdin, "wb")
        self._process: psutil.Process | None = None
        # It may have ended: then there is nothing to wait for.
        with suppress(psutil.NoSuchProcess):
            self._process = psutil.Process(process)

    def wait(self, timeout: float | None = None) -> None:
        """As `subprocess.Popen.wait`."""
        try:
            if self._process is not None:
                self._process.wait(timeout)
        except psutil.TimeoutExpired:
            raise subprocess.TimeoutExpired("arignote.loading.keeper", timeout or 0.0) from None

    def kill(self) -> None:
        """End its server, upon which it ends by itself.

        A keeper that is killed fails the run, though all is done: only one that does not end.
        """
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            for server in self._process.children():
                with suppress(psutil.NoSuchProcess):
                    server.kill()
            try:
                self._process.wait(_END_SECONDS)
            except psutil.TimeoutExpired:
                self._process.kill()


def _command(address: str) -> list[str]:
    given = [f"{name}={os.environ[name]}" for name in _FOR_PYTHON if name in os.environ]
    env = shutil.which("env") or "/usr/bin/env"
    return [env, *given, sys.executable, "-m", "arignote.loading.keeper", address]


def _accept(listener: socket.socket, what: str, seconds: float) -> tuple[socket.socket, int]:
    """The keeper's connection, and its process id."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            break
        process, user = peer_of(connection)
        if user == os.getuid():
            return connection, process
        # Everybody on this host may connect.
        connection.close()
    raise LoaderError(
        f"{what} was started by MPI, but has not come within {seconds:g} s "
        "(loading.timeout_seconds): on another host? leave out loading.start"
    )


def _hand_over(keeper: socket.socket, channel: socket.socket, environment: dict[str, str]) -> int:
    """Give the keeper all that its server needs; the file by which it is told more."""
    theirs, ours = os.pipe()
    # It may be longer than a message.
    variables = os.memfd_create("arignote-environment", os.MFD_CLOEXEC)
    try:
        with os.fdopen(variables, "w", closefd=False) as file:
            json.dump(environment, file)
        cores = sorted(os.sched_getaffinity(0))
        send(keeper, {"cores": cores}, (channel.fileno(), theirs, variables))
    finally:
        os.close(theirs)
        os.close(variables)
    return ours
