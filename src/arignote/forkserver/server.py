"""`python -m arignote.forkserver.server FD`: imports what workers need, then forks one for each
stub that comes to the listening socket FD, and tells it how the worker ended.

It has one thread, and touches neither MPI nor CUDA, so its children can be forked. It ends once
no stub is left.
"""

from __future__ import annotations

import atexit
import gc
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from arignote.loading.channel import Message, peer_of, receive, send
from arignote.orphan import die_with_parent

_IDLE_SECONDS = 5.0
"""How long it waits for the first stub, which has started it."""
IMPORTED = ("arignote.worker", "torch._dynamo")
"""What workers import; the last torch itself, once an optimizer is made."""


def main(file: int) -> None:
    """Serve until nobody is left."""
    listener = socket.socket(fileno=file)
    for module in IMPORTED:
        import_module(module)
    # So that a collection in a child does not copy all pages.
    gc.collect()
    gc.freeze()
    Server(listener).run()


class Server:
    """Forks workers, and tells how they ended."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._workers: dict[int, socket.socket] = {}
        """Process id -> the channel to its stub."""
        self._served = False
        self._selector = selectors.PollSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        # A child's end wakes the wait for messages.
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)

    def run(self) -> None:
        """Until no stub is left; in a child, until its worker has ended."""
        while not self._left_alone():
            ready = self._selector.select(_IDLE_SECONDS)
            if not (ready or self._served):
                return
            for key, _ in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif key.fileobj == self._woken:
                    with suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                    self._tell_who_ended()
                else:
                    self._hear(key.fileobj)

    def _left_alone(self) -> bool:
        """Whether somebody came, and nobody is there any more: a stub to come starts another."""
        # The listening socket and the pipe are always there.
        return self._served and not self._workers and len(self._selector.get_map()) == 2

    def _accept(self) -> None:
        channel, _ = self._listener.accept()
        if peer_of(channel)[1] != os.getuid():
            channel.close()
            return
        self._selector.register(channel, selectors.EVENT_READ)

    def _hear(self, channel: Any) -> None:
        """A stub says what its worker is to be, or is gone, and its worker with it."""
        received = receive(channel)
        if received is not None:
            self._fork(channel, *received)
            return
        self._selector.unregister(channel)
        for pid, its in self._workers.items():
            if its is channel:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        channel.close()

    def _fork(self, channel: socket.socket, message: Message, files: list[int]) -> None:
        server = os.getpid()
        pid = os.fork()
        if not pid:
            self._become(message, files, server)
        for file in files:
            os.close(file)
        self._workers[pid] = channel
        self._served = True
        with suppress(OSError):
            send(channel, {"pid": pid})

    def _become(self, message: Message, files: list[int], server: int) -> None:
        """In the child: be the worker, to its end."""
        die_with_parent(parent=server)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # The ends of the others: of a stub that is gone, its own worker's must be the last.
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.environ.clear()
        os.environ.update(message["environment"])
        os.sched_setaffinity(0, message["cores"])
        os.chdir(message["folder"])
        from arignote.comm.open import leave_mpi
        from arignote.worker import main as work

        shared = set(sys.modules)
        work(message["arguments"])
        atexit._run_exitfuncs()
        leave_mpi()
        # Not through the interpreter's own end: it touches, and so copies, all that is shared. But
        # as there, what the worker's own modules hold is finalised: files of the user are written.
        for name in set(sys.modules) - shared:
            del sys.modules[name]
        gc.collect()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)

    def _tell_who_ended(self) -> None:
        while self._workers:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            channel = self._workers.pop(pid)
            with suppress(OSError):
                send(channel, {"code": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main(int(sys.argv[1]))
