"""A deadline for calls that cannot be polled.

The bad story:
1. all workers have come to a round, so each enters MPI's blocking Allreduce,
2. one of them is stopped there (SIGSTOP, a frozen file system, a cut cable),
3. the others sit inside the library, where no Python code of theirs runs, for ever.

A thread of ours still runs (the library call releases the interpreter's lock). When a
guarded call outlasts its deadline, the thread reports it and ends the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watchdog:
    """Calls `on_expiry(what)` from its own thread when a guarded block lasts too long."""

    def __init__(self, on_expiry: Callable[[str], None], poll_seconds: float = 0.5) -> None:
        self._on_expiry = on_expiry
        self._poll_seconds = poll_seconds
        self._guarded: tuple[float, str] | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def guard(self, what: str, timeout_seconds: float) -> Iterator[None]:
        """The block must end within `timeout_seconds`."""
        self._guarded = (time.monotonic() + timeout_seconds, what)
        try:
            yield
        finally:
            self._guarded = None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(self._poll_seconds):
            guarded = self._guarded
            if guarded is not None and time.monotonic() > guarded[0]:
                self._on_expiry(guarded[1])
                return
