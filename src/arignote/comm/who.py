"""Who is here? The workers that wait too long ask everyone; those that wait as well answer.

The bad story this is for:
1. workers 0 and 2 come to step 17, worker 1 sits in a stuck file system,
2. a library's time-out tells both of them "collective 4711 timed out", and no name,
3. somebody logs in to sixty-four machines to find the one that hangs.

Only a worker that is itself waiting in a meeting answers, so silence means: did not come.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

_QUESTION, _ANSWER = 1, 2
_EMPTY = np.zeros(0, dtype=np.uint8)


class RollBook:
    """Questions and answers over a communicator that carries nothing else."""

    def __init__(self, comm: Any) -> None:
        self._comm = comm
        self._sent: list[Any] = []

    def answer(self) -> None:
        """Tell everyone who asked since the last call that we are waiting here too."""
        from mpi4py import MPI

        status = MPI.Status()
        while self._comm.Iprobe(MPI.ANY_SOURCE, _QUESTION, status):
            source = status.Get_source()
            self._comm.Recv(_EMPTY, source, _QUESTION)
            self._sent.append(self._comm.Isend(_EMPTY, source, _ANSWER))

    def ask(self, patience_seconds: float = 2.0) -> set[int]:
        """The ranks of all other workers that answer within `patience_seconds`."""
        from mpi4py import MPI

        others = [rank for rank in range(self._comm.Get_size()) if rank != self._comm.Get_rank()]
        self._sent += [self._comm.Isend(_EMPTY, rank, _QUESTION) for rank in others]
        present: set[int] = set()
        status = MPI.Status()
        deadline = time.monotonic() + patience_seconds
        while len(present) < len(others) and time.monotonic() < deadline:
            self.answer()
            while self._comm.Iprobe(MPI.ANY_SOURCE, _ANSWER, status):
                source = status.Get_source()
                self._comm.Recv(_EMPTY, source, _ANSWER)
                present.add(source)
            time.sleep(0.01)
        return present

    def close(self) -> None:
        """Free the communicator."""
        self._comm.Free()
