"""Locks between the workers of one host, which a killed holder cannot keep.

They are the kernel's own locks on bytes of a file (open file description locks, Linux): byte k
is lock k. Whoever dies lets go of all that it held, so nobody waits for a dead worker.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from arignote.comm.base import World
from arignote.errors import LostWorkerError

_SPIN_SECONDS = 0.0005
_NAP_SECONDS = 0.0002


class FileLocks:
    """As many locks as one likes, numbered from 0, in a file that all workers have open.

    Args:
        descriptor: of this worker's own opening of the file; closed with this object.
        holders: memory that they all see, zeroed, shape (locks,): who holds which, plus
            one; 0: nobody.
        world: whose workers lock; its deadline is ours.
    """

    def __init__(self, descriptor: int, holders: npt.NDArray[np.int32], world: World) -> None:
        self._descriptor = descriptor
        self._holders = holders
        self._world = world
        self.close = weakref.finalize(self, os.close, descriptor)
        """Close the file; any number of times."""

    @contextmanager
    def held(self, number: int, what: str) -> Iterator[None]:
        """Hold lock `number` in the block.

        Raises:
            LostWorkerError: another worker held it for `timeout_seconds`.
        """
        begun = time.monotonic()
        while not self._try(fcntl.F_WRLCK, number):
            waited = time.monotonic() - begun
            if waited > self._world.timeout_seconds:
                # Who has just taken it may not have said so yet.
                rank = int(self._holders[number]) - 1
                holder = "a worker" if rank < 0 else self._world.peers[rank]
                raise LostWorkerError(
                    f"{holder} has not let go of {what} for {self._world.timeout_seconds:g} s: "
                    "look at that worker, or raise train.timeout_seconds"
                )
            time.sleep(0 if waited < _SPIN_SECONDS else _NAP_SECONDS)
        self._holders[number] = self._world.rank + 1
        try:
            yield
        finally:
            self._holders[number] = 0
            self._try(fcntl.F_UNLCK, number)

    def _try(self, kind: int, number: int) -> bool:
        """Set or release lock `number` without waiting; whether that was possible."""
        request = struct.pack("hhqqi4x", kind, os.SEEK_SET, number, 1, 0)
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, request)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True
