"""The server of a worker's loaders as a process, and what it tells."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, NoReturn, Protocol, TypeAlias

from arignote import errors
from arignote.errors import ForeignError
from arignote.loading.channel import Message, channel_pair, send

_CLOSE_SECONDS = 5.0


class Process(Protocol):
    """What of `subprocess.Popen` is needed of a server's process."""

    pid: int

    @property
    def stdin(self) -> IO[bytes] | None:
        """By which it is told what to open."""

    def wait(self, timeout: float | None = None) -> object:
        """Until it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not within so many seconds.
        """

    def kill(self) -> None:
        """End it."""


Start: TypeAlias = Callable[[socket.socket, dict[str, str]], Process]
"""Starts a server with its end of a channel and an environment."""


def server_command(channel: int) -> list[str]:
    """Of a server that has its end of a channel open under this number."""
    return [sys.executable, "-m", "arignote.loading.server", str(channel)]


def as_child(channel: socket.socket, environment: dict[str, str]) -> Process:
    """Start a server as a child of this process."""
    return subprocess.Popen(
        server_command(channel.fileno()),
        stdin=subprocess.PIPE,
        pass_fds=[channel.fileno()],
        env=environment,
    )


class ServerProcess:
    """`python -m arignote.loading.server`, which imports what it needs while the worker starts."""

    def __init__(self, start: Start = as_child) -> None:
        self._start = start
        self.channel, theirs = channel_pair()
        # One thread, since only the one that forks lives on in its child.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            try:
                self._process = start(theirs, environment)
            except BaseException:
                self.channel.close()
                raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def tell(self, description: Message) -> None:
        """What to open: `server.describe`."""
        stdin = self._process.stdin
        assert stdin is not None
        # Where the server is gone, the end of its channel tells.
        with suppress(BrokenPipeError), stdin:
            stdin.write(json.dumps(description).encode())

    def fork(self, number: int, channel: int, memory: int) -> None:
        """Have a loader begin, with its end of a channel and the shared memory (open files)."""
        # As above.
        with suppress(OSError):
            send(self.channel, {"loader": number}, (channel, memory))

    def again(self) -> ServerProcess:
        """Another, this one being gone."""
        self.close()
        return ServerProcess(self._start)

    def close(self) -> None:
        """No process is left when this returns."""
        self.channel.close()
        # It waits for what it is told first, as long as there may be more.
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def raise_failure(message: Message) -> NoReturn:
    """Raise here what was raised in a loader.

    Raises:
        ArignoteError: of the kind that it was there.
        ForeignError: it was none of ours.
    """
    if message["kind"]:
        raise getattr(errors, message["kind"])(message["failure"])
    raise ForeignError(message["failure"])
