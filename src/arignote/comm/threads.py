"""Workers as threads of one process: every collective without MPI, for tests.

worlds = thread_worlds(3)
results = run_threads(worlds, lambda world: world.meet([1.0], "a test"))
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from arignote.comm.base import Peer, World
from arignote.errors import LostWorkerError

T = TypeVar("T")


class _Hub:
    """Where the threads lay down what they bring to a meeting, and pick up what all brought."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.changed = threading.Condition()
        self.tables: dict[int, dict[int, Any]] = {}

    def trade(
        self, turn: int, rank: int, item: Any, what: str, timeout_seconds: float
    ) -> list[Any]:
        """Lay down `item` for meeting number `turn`, return all items by rank."""
        with self.changed:
            table = self.tables.setdefault(turn, {})
            table[rank] = item
            self.changed.notify_all()
            if not self.changed.wait_for(lambda: len(table) == self.size, timeout_seconds):
                missing = ", ".join(f"worker {r}" for r in range(self.size) if r not in table)
                raise LostWorkerError(
                    f"{missing} did not come to {what} within {timeout_seconds:g} s"
                )
            # Everybody holds `table` by now; later meetings have tables of their own.
            self.tables.pop(turn, None)
            return [table[r] for r in range(self.size)]


class ThreadWorld(World):
    """One worker of a world of threads."""

    def __init__(self, rank: int, hub: _Hub, timeout_seconds: float) -> None:
        self.rank = rank
        self.peers = tuple(Peer(r, platform.node(), os.getpid()) for r in range(hub.size))
        self.library = "threads"
        self.timeout_seconds = timeout_seconds
        self._hub = hub
        self._turn = 0

    def _trade(self, item: Any, what: str) -> list[Any]:
        self._turn += 1
        return self._hub.trade(self._turn, self.rank, item, what, self.timeout_seconds)

    def meet(self, values: Sequence[float], what: str) -> npt.NDArray[np.float64]:
        """The sum over the threads, in the order of their ranks."""
        brought = self._trade(np.array(values, dtype=np.float64), what)
        total: npt.NDArray[np.float64] = np.sum(brought, axis=0)
        return total

    def sum_(self, vector: torch.Tensor, what: str) -> None:
        """Sum in the order of the ranks."""
        brought = self._trade(vector.clone(), what)
        vector.copy_(brought[0])
        for other in brought[1:]:
            vector.add_(other)

    def broadcast_(self, vector: torch.Tensor, what: str) -> None:
        """Copy rank 0's."""
        vector.copy_(self._trade(vector.clone(), what)[0])

    def gather(self, item: Any, what: str) -> list[Any]:
        """All items, each through JSON as over a wire."""
        return [json.loads(text) for text in self._trade(json.dumps(item), what)]

    def close(self) -> None:
        """Nothing to leave."""


def thread_worlds(size: int, timeout_seconds: float = 20.0) -> list[ThreadWorld]:
    """The `size` ends of one world."""
    hub = _Hub(size)
    return [ThreadWorld(rank, hub, timeout_seconds) for rank in range(size)]


def run_threads(worlds: Sequence[World], work: Callable[[World], T]) -> list[T]:
    """Run `work(world)` for every end in a thread of its own; the results by rank.

    Raises:
        Exception: what the first worker that failed raised.
    """
    with ThreadPoolExecutor(len(worlds)) as pool:
        return [future.result() for future in [pool.submit(work, world) for world in worlds]]
