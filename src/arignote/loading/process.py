"""The server of a worker's loaders as a child process, and what it tells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from typing import NoReturn

from arignote import errors
from arignote.errors import ForeignError
from arignote.loading.channel import Message, channel_pair, send

_CLOSE_SECONDS = 5.0


class ServerProcess:
    """`python -m arignote.loading.server`, which imports what it needs while the worker starts."""

    def __init__(self) -> None:
        self.channel, theirs = channel_pair()
        # One thread, since only the one that forks lives on in its child.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "arignote.loading.server", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=environment,
            )

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
        return ServerProcess()

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
