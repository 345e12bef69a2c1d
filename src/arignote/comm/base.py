"""The contract of a world: all ranks of a run, and the few things they do together.

Members: `serial` (one worker, no MPI), `threads` (workers as threads, for tests), `mpi`.
All of a world's methods are collective (every worker calls them, in the same order) but
`send`, `receive`, `wait` and `probe`. A world serves one thread; `split(0)` gives another
thread its own.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class Peer:
    """Where one worker lives."""

    rank: int
    """Its number in the whole run."""
    host: str
    pid: int
    kind: str = "worker"
    """worker or server."""

    def __str__(self) -> str:
        return f"{self.kind} {self.rank} (host {self.host}, pid {self.pid})"


@dataclass(frozen=True)
class DeviceBuffers:
    """Whether the memory of devices is taken as it is (a CUDA-aware MPI), and how we know."""

    taken: bool
    reason: str


class Request(Protocol):
    """A message on its way."""

    peer: int
    """Who sends it, or is to receive it."""

    def done(self) -> bool:
        """Whether it has arrived (of a sent one: whether its memory may be changed); no wait."""


class Meeting(Protocol):
    """A meeting to which this worker has come, without waiting for the others."""

    def done(self) -> bool:
        """Whether all have come; no wait."""


class World(ABC):
    """All workers of a run, seen from one of them."""

    rank: int
    """This worker's number, 0 <= rank < size."""
    peers: tuple[Peer, ...]
    """All workers, by their rank in this world."""
    library: str
    """Name and version of what carries the messages."""
    timeout_seconds: float
    """How long any wait may last before it is an error that names who did not come."""
    patient: bool = False
    """Whether waits leave the core to others at once: for a thread beside one that computes."""
    many_threads: bool = True
    """Whether another thread may use a `split` world of its own at the same time."""

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self.peers)

    @property
    def crowded(self) -> bool:
        """Whether this host has fewer cores than ranks: who waits awake keeps others off."""
        host = self.peers[self.rank].host
        return sum(peer.host == host for peer in self.peers) > (os.cpu_count() or 1)

    @property
    def local_rank(self) -> int:
        """This worker's number among the workers of its own host."""
        host = self.peers[self.rank].host
        return sum(peer.host == host for peer in self.peers[: self.rank])

    def meet(self, values: Sequence[float], what: str) -> npt.NDArray[np.float64]:
        """Wait for all workers; the elementwise sum of their `values`, shape (len(values),).

        `what` names the occasion ("step 17") for the error.

        Raises:
            LostWorkerError: somebody did not come within `timeout_seconds`.
        """
        return self.close_meeting(self.open_meeting(values), what)

    @abstractmethod
    def open_meeting(self, values: Sequence[float]) -> Meeting:
        """The first half of `meet`: lay down `values`, wait for nobody.

        Several may be open, and other collectives may come before the second half: all workers
        open, close and do those in the same order.
        """

    @abstractmethod
    def close_meeting(self, meeting: Meeting, what: str) -> npt.NDArray[np.float64]:
        """The second half of `meet`, once for each meeting: wait for all, return the sum.

        Raises:
            LostWorkerError: as `meet`.
        """

    @abstractmethod
    def sum_(self, vector: torch.Tensor, what: str) -> None:
        """Replace `vector` (1-D, contiguous, CPU) by the sum of all workers' vectors.

        All must have come already (`meet`).

        Raises:
            LostWorkerError: as `meet`.
        """

    def device_buffers(self, device: torch.device) -> DeviceBuffers | None:
        """Collective: does `sum_` take all workers' vectors where they are?

        Args:
            device: where this worker's are.

        Returns:
            None: all are on CPUs.
        """
        return None

    @abstractmethod
    def broadcast_(self, vector: torch.Tensor, what: str) -> None:
        """Replace `vector` (contiguous, CPU) by rank 0's.

        Raises:
            LostWorkerError: as `meet`.
        """

    @abstractmethod
    def gather(self, item: Any, what: str) -> list[Any]:
        """Every worker's `item` (anything that JSON can hold), by rank, on every worker.

        Raises:
            LostWorkerError: as `meet`.
        """

    @abstractmethod
    def send(self, wire: torch.Tensor, to: int, tag: int) -> Request:
        """Begin to send `wire` (contiguous, CPU); it must not change before that is done.

        Between two workers, messages with the same tag arrive in the order they were sent.
        """

    @abstractmethod
    def receive(self, wire: torch.Tensor, source: int, tag: int) -> Request:
        """Begin to receive a message of exactly `wire`'s size into it."""

    @abstractmethod
    def wait(self, requests: Sequence[Request], what: str) -> None:
        """Wait until all `requests` are done.

        Raises:
            LostWorkerError: one was not within `timeout_seconds`; names the worker.
        """

    @abstractmethod
    def probe(self, tag: int) -> int | None:
        """Who sent a message with this `tag` that is here and no `receive` has asked for; no wait.

        None if there is no such message. Of several senders any, but none is passed over for ever.
        """

    @abstractmethod
    def split(self, color: int) -> World:
        """The world of all workers that call this with the same `color`, ranks in this order.

        Its messages never meet those of this world.
        """

    @abstractmethod
    def close(self) -> None:
        """Leave the world in good order, after the last collective call."""
