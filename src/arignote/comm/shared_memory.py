"""Memory that the workers of one host share, which nothing can leave behind.

The bad story of shared memory with a name (/dev/shm/something):
1. a worker makes it, and is killed before it can remove it,
2. the name stays, and so do its gigabytes, until somebody looks.

So it has no name: the first worker makes an anonymous file (memfd), the others open it by way
of /proc/PID/fd, all map it and close it. When the last of them is gone, it is.
"""

from __future__ import annotations

import mmap
import os

import numpy as np
import numpy.typing as npt
import torch

from arignote.comm.base import World
from arignote.comm.file_locks import FileLocks
from arignote.errors import UserError

_LINE = 4096


class SharedRows:
    """Rows of memory that all workers of `world` (on one host) see, zeroed; collective.

    Args:
        elements, dtype: of each row; the same on all workers.
        rows: how many; None: one for every worker.
        locks: how many `locks` will be used; they hold the file open until `close`.

    Raises:
        UserError: the workers do not agree on the size, or cannot open each other's memory.
    """

    locks: FileLocks

    def __init__(
        self,
        world: World,
        elements: int,
        dtype: torch.dtype,
        rows: int | None = None,
        *,
        locks: int = 0,
    ) -> None:
        self.elements = elements
        sizes = world.gather(elements, "sharing memory")
        for rank, size in enumerate(sizes):
            if size != sizes[0]:
                raise UserError(
                    f"worker {rank} has a vector of {size} elements, worker 0 one of {sizes[0]}: "
                    "all workers must build the same model"
                )
        itemsize = torch.empty(0, dtype=dtype).element_size()
        self._row_bytes = max(1, -(-elements * itemsize // _LINE)) * _LINE
        count = rows or world.size
        size = self._row_bytes * count
        shared, opened = _map(world, size + 4 * locks)
        if locks:
            holders = np.frombuffer(shared, dtype=np.int32, offset=size)
            self.locks = FileLocks(opened, holders, world)
        else:
            os.close(opened)
        flat = torch.frombuffer(shared, dtype=dtype, count=self._row_bytes // itemsize * count)
        self._rows = flat.view(count, -1)
        self.own = self._rows[world.rank % count, :elements]
        """This worker's row, shape (elements,)."""

    def rows(self) -> npt.NDArray[np.generic]:
        """All rows, shape (workers, elements and some padding), C-contiguous."""
        return self._rows.numpy()

    def row(self, number: int) -> torch.Tensor:
        """Row `number`, shape (elements,)."""
        return self._rows[number, : self.elements]

    def close(self) -> None:
        """Nothing is locked any more; the memory goes with the last that uses it."""
        self.locks.close()

    def offset(self, vector: torch.Tensor) -> int | None:
        """Where in this worker's row `vector` begins; None if it lies elsewhere."""
        start = vector.data_ptr() - self.own.data_ptr()
        inside = 0 <= start < self._row_bytes and vector.dtype == self.own.dtype
        return start // vector.element_size() if inside else None


def _map(world: World, size: int) -> tuple[mmap.mmap, int]:
    """One mapping of `size` bytes on all workers, and this worker's own opening of the file."""
    made = os.memfd_create("arignote") if world.rank == 0 else -1
    try:
        if made >= 0:
            os.ftruncate(made, size)
        pid, number = world.gather([os.getpid(), made], "sharing memory")[0]
        problem, shared, opened = "", None, -1
        try:
            opened = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
            shared = mmap.mmap(opened, size)
        except OSError as error:
            problem = error.strerror or str(error)
        # Also the meeting after which the first worker may close the file.
        problems = world.gather(problem, "sharing memory")
    finally:
        if made >= 0:
            os.close(made)
    for rank, text in enumerate(problems):
        if text:
            raise UserError(
                f"worker {rank} cannot share memory with worker 0 ({text}): are they in containers "
                "of their own? use --exchange asa:fp32"
            )
    assert shared is not None
    return shared, opened
