"""Workers as threads of one process: every collective without MPI, for tests.

worlds = thread_worlds(3)
results = run_threads(worlds, lambda world: world.meet([1.0], "a test"))
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from arignote.comm.base import Peer, Request, World
from arignote.errors import LostWorkerError

T = TypeVar("T")


class _Hub:
    """Where the threads lay down what they bring to a meeting, and pick up what all brought."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.changed = threading.Condition(threading.RLock())
        self.tables: dict[int, dict[int, Any]] = {}
        self.letters: dict[tuple[int, int, int, int], torch.Tensor] = {}
        """(from, to, tag, how many-th) -> what is sent."""

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


@dataclass
class _Sent:
    """A letter in the hub: copied, so done at once."""

    peer: int

    def done(self) -> bool:
        return True


class _Awaited:
    """A letter that may not be in the hub yet."""

    def __init__(self, hub: _Hub, key: tuple[int, int, int, int], wire: torch.Tensor) -> None:
        self.peer = key[0]
        self._hub, self._key, self._wire = hub, key, wire
        self._done = False

    def done(self) -> bool:
        with self._hub.changed:
            if not self._done and self._key in self._hub.letters:
                letter = self._hub.letters.pop(self._key)
                if letter.numel() != self._wire.numel():
                    raise ValueError(
                        f"a message of {letter.numel()} elements for {self._wire.numel()}"
                    )
                self._wire.copy_(letter)
                self._done = True
        return self._done


class ThreadWorld(World):
    """One worker of a world of threads."""

    def __init__(
        self, rank: int, hub: _Hub, timeout_seconds: float, hosts: Sequence[str] = ()
    ) -> None:
        self.rank = rank
        names = hosts or [platform.node()] * hub.size
        self.peers = tuple(Peer(r, name, os.getpid()) for r, name in enumerate(names))
        self.library = "threads"
        self.timeout_seconds = timeout_seconds
        self._hub = hub
        self._turn = 0
        self._counts: Counter[tuple[int, int, int]] = Counter()

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

    def _key(self, source: int, to: int, tag: int) -> tuple[int, int, int, int]:
        self._counts[source, to, tag] += 1
        return source, to, tag, self._counts[source, to, tag]

    def send(self, wire: torch.Tensor, to: int, tag: int) -> Request:
        """Lay a copy into the hub."""
        with self._hub.changed:
            self._hub.letters[self._key(self.rank, to, tag)] = wire.clone()
            self._hub.changed.notify_all()
        return _Sent(to)

    def receive(self, wire: torch.Tensor, source: int, tag: int) -> Request:
        """Look for it in the hub."""
        return _Awaited(self._hub, self._key(source, self.rank, tag), wire)

    def wait(self, requests: Sequence[Request], what: str) -> None:
        """Until the last letter is there."""
        for request in requests:
            with self._hub.changed:
                if not self._hub.changed.wait_for(request.done, self.timeout_seconds):
                    raise LostWorkerError(
                        f"worker {request.peer} sent nothing for {what} within "
                        f"{self.timeout_seconds:g} s"
                    )

    def split(self, color: int) -> World:
        """A hub of its own for every color, made by the first of its workers."""
        table = self._trade((color, _Hub(self.size)), "a split")
        members = [rank for rank, (theirs, _) in enumerate(table) if theirs == color]
        hub = table[members[0]][1]
        hub.size = len(members)
        part = ThreadWorld(members.index(self.rank), hub, self.timeout_seconds)
        part.peers = tuple(self.peers[rank] for rank in members)
        return part

    def close(self) -> None:
        """Nothing to leave."""


def thread_worlds(
    size: int, timeout_seconds: float = 20.0, hosts: Sequence[str] = ()
) -> list[ThreadWorld]:
    """The `size` ends of one world; `hosts`: the host each pretends to be on."""
    hub = _Hub(size)
    return [ThreadWorld(rank, hub, timeout_seconds, hosts) for rank in range(size)]


def run_threads(
    worlds: Sequence[World], work: Callable[[World], T], *, in_turns: bool = False
) -> list[T]:
    """Run `work(world)` for every end in a thread of its own; the results by rank.

    Args:
        in_turns: each starts only when the one before it waits for it (or is through): what
            they do before their first meeting happens in the order of the ranks.

    Raises:
        Exception: what the first worker that failed raised.
    """
    with ThreadPoolExecutor(len(worlds)) as pool:
        futures: list[Future[T]] = []
        for world in worlds:
            futures.append(pool.submit(work, world))
            while in_turns and not futures[-1].done() and not _waits(world):
                time.sleep(0.001)
        return [future.result() for future in futures]


def _waits(world: World) -> bool:
    """Whether this end has come to a meeting that others have yet to come to."""
    if not isinstance(world, ThreadWorld):
        return False
    with world._hub.changed:
        return any(world.rank in table for table in world._hub.tables.values()) or world._turn > 1
