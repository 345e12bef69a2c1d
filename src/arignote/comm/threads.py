"""Workers as threads of one process: every collective without MPI, for tests.

worlds = thread_worlds(3)
results = run_threads(worlds, lambda world: world.meet([1.0], "a test"))
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from arignote.comm.base import Meeting, Peer, Request, World
from arignote.comm.script import Script
from arignote.comm.thread_hub import Awaited, Hub, Sent, Table

T = TypeVar("T")


class ThreadWorld(World):
    """One worker of a world of threads."""

    def __init__(
        self, rank: int, hub: Hub, timeout_seconds: float, hosts: Sequence[str] = ()
    ) -> None:
        self.rank = rank
        names = hosts or [platform.node()] * hub.size
        self.peers = tuple(Peer(r, name, os.getpid()) for r, name in enumerate(names))
        self.library = "threads"
        self.timeout_seconds = timeout_seconds
        self._hub = hub
        self._turn = 0
        self._sent: Counter[tuple[int, int]] = Counter()
        """(to, tag) -> how many."""
        self._claimed: Counter[tuple[int, int]] = Counter()
        """(from, tag) -> how many a `receive` has asked for."""
        self._probed = -1
        """Whom `probe` found last."""

    @property
    def script(self) -> Script | None:
        """What this world's threads take turns by."""
        return self._hub.script

    def _lay(self, item: Any) -> Table:
        self._turn += 1
        return self._hub.lay(self._turn, self.rank, item)

    def _trade(self, item: Any, what: str) -> list[Any]:
        return self._hub.collect(self._lay(item), what, self.timeout_seconds)

    def open_meeting(self, values: Sequence[float]) -> Meeting:
        """Lay the values into the hub."""
        return self._lay(np.array(values, dtype=np.float64))

    def close_meeting(self, meeting: Meeting, what: str) -> npt.NDArray[np.float64]:
        """The sum over the threads, in the order of their ranks."""
        assert isinstance(meeting, Table)
        brought = self._hub.collect(meeting, what, self.timeout_seconds)
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

    def send(self, wire: torch.Tensor, to: int, tag: int) -> Request:
        """Lay a copy into the hub."""
        self._hub.pause(lambda: f"sends worker {to} a message with tag {tag}")
        self._sent[to, tag] += 1
        with self._hub.changed:
            self._hub.letters[self.rank, to, tag, self._sent[to, tag]] = wire.clone()
        self._hub.told()
        return Sent(to)

    def receive(self, wire: torch.Tensor, source: int, tag: int) -> Request:
        """Look for it in the hub."""
        self._claimed[source, tag] += 1
        key = source, self.rank, tag, self._claimed[source, tag]
        return Awaited(self._hub, key, wire)

    def wait(self, requests: Sequence[Request], what: str) -> None:
        """Until the last letter is there."""
        self._hub.pause(lambda: f"comes to {what}")
        for request in requests:
            arrived = request.take if isinstance(request, Awaited) else request.done
            lost = partial("worker {} sent nothing for {}".format, request.peer, what)
            self._hub.wait_for(arrived, lost, self.timeout_seconds)

    def probe(self, tag: int) -> int | None:
        """The next after the one found last; in a script, one drawn from those that wait."""
        self._hub.pause(lambda: f"looks for a message with tag {tag}")
        waiting = [r for r in range(self.size) if self._unclaimed(r, tag) in self._hub.letters]
        if not waiting:
            return None
        if self.script is not None and self.script.plays():
            # By what was found before, a `restart` of the script would not start anew.
            return self.script.choose(waiting)
        self._probed = min(waiting, key=lambda rank: (rank - self._probed - 1) % self.size)
        return self._probed

    def _unclaimed(self, source: int, tag: int) -> tuple[int, int, int, int]:
        """Where the next letter lies that nobody has asked for."""
        return source, self.rank, tag, self._claimed[source, tag] + 1

    def split(self, color: int) -> World:
        """A hub of its own for every color, made by the first of its workers."""
        table = self._trade((color, Hub(self.size, self.script)), "a split")
        members = [rank for rank, (theirs, _) in enumerate(table) if theirs == color]
        hub = table[members[0]][1]
        hub.size = len(members)
        part = ThreadWorld(members.index(self.rank), hub, self.timeout_seconds)
        part.peers = tuple(self.peers[rank] for rank in members)
        return part

    def close(self) -> None:
        """Nothing to leave."""


def thread_worlds(
    size: int,
    timeout_seconds: float = 20.0,
    hosts: Sequence[str] = (),
    script: Script | None = None,
) -> list[ThreadWorld]:
    """The `size` ends of one world.

    Args:
        hosts: the host each pretends to be on.
        script: the threads of `run_threads` take turns by it, in these worlds and their splits.
    """
    hub = Hub(size, script)
    return [ThreadWorld(rank, hub, timeout_seconds, hosts) for rank in range(size)]


def run_threads(
    worlds: Sequence[World], work: Callable[[World], T], *, in_turns: bool = False
) -> list[T]:
    """Run `work(world)` for every end in a thread of its own; the results by rank.

    Args:
        in_turns: each starts only when the one before it waits for it (or is through): what
            they do before their first meeting happens in the order of the ranks. With a
            script that is always so.

    Raises:
        Exception: what the first worker that failed raised.
    """
    if isinstance(worlds[0], ThreadWorld) and worlds[0].script is not None:
        return worlds[0].script.run([(world.rank, partial(work, world)) for world in worlds])
    with ThreadPoolExecutor(len(worlds)) as pool:
        futures: list[Future[T]] = []
        for world in worlds:
            futures.append(pool.submit(work, world))
            while in_turns and not futures[-1].done() and not _waits(world):
                time.sleep(0.001)
        return [future.result() for future in futures]


def restart_script(world: World, seed: int) -> None:
    """Wait for all workers; from here on the order depends on `seed` alone. Collective.

    For two runs with different pasts that are to go on alike. Threads that joined the script
    are not waited for: they go on from wherever they are.
    """
    assert isinstance(world, ThreadWorld)
    assert world.script is not None
    world.script.restart_together(world.size, seed)


def _waits(world: World) -> bool:
    """Whether this end has come to a meeting that others have yet to come to."""
    if not isinstance(world, ThreadWorld):
        return False
    with world._hub.changed:
        return (
            any(world.rank in table.items for table in world._hub.tables.values())
            or world._turn > 1
        )
