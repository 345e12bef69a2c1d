"""The contract of a world: all ranks of a run, and the few things they do together.

Members: `serial` (one worker, no MPI), `threads` (workers as threads, for tests), `mpi`.
All of a world's methods are collective: every worker calls them, in the same order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True)
class Peer:
    """Where one worker lives."""

    rank: int
    host: str
    pid: int

    def __str__(self) -> str:
        return f"worker {self.rank} (host {self.host}, pid {self.pid})"


class World(ABC):
    """All workers of a run, seen from one of them."""

    rank: int
    """This worker's number, 0 <= rank < size."""
    peers: tuple[Peer, ...]
    """All workers, by rank."""
    library: str
    """Name and version of what carries the messages."""
    timeout_seconds: float
    """How long any wait may last before it is an error that names who did not come."""

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self.peers)

    @property
    def local_rank(self) -> int:
        """This worker's number among the workers of its own host."""
        host = self.peers[self.rank].host
        return sum(peer.host == host for peer in self.peers[: self.rank])

    @abstractmethod
    def meet(self, values: Sequence[float], what: str) -> npt.NDArray[np.float64]:
        """Wait for all workers; the elementwise sum of their `values`, shape (len(values),).

        `what` names the occasion ("step 17") for the error.

        Raises:
            LostWorkerError: somebody did not come within `timeout_seconds`.
        """

    @abstractmethod
    def sum_(self, vector: torch.Tensor, what: str) -> None:
        """Replace `vector` (1-D, contiguous, CPU) by the sum of all workers' vectors.

        Raises:
            LostWorkerError: as `meet`.
        """

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
    def close(self) -> None:
        """Leave the world in good order, after the last collective call."""
