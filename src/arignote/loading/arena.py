"""Memory that a worker shares with its loaders, given out in blocks.

It has no name (memfd), so nothing of it can stay behind, and the size of /dev/shm does not matter.
"""

from __future__ import annotations

import mmap
import os

from arignote.errors import UserError

_ALIGN_BYTES = 64
"""A cache line, and the widest vector instructions."""


class Arena:
    """Blocks of one piece of memory, the first gap that is large enough.

    Raises:
        UserError: the machine does not have so much memory.
    """

    def __init__(self, size_bytes: int, *, reserved_bytes: int = 0) -> None:
        self.reserved_bytes = aligned(reserved_bytes)
        """At the beginning, never given out."""
        self.size_bytes = aligned(size_bytes)
        whole = self.reserved_bytes + self.size_bytes
        self.file = os.memfd_create("arignote-loading", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self.file, whole)
            self.memory = mmap.mmap(self.file, whole)
        except (OSError, ValueError, OverflowError) as error:
            os.close(self.file)
            raise UserError(
                f"{whole / 2**20:,.0f} MiB to share with the loaders cannot be had ({error}): "
                "lower loading.ahead_mib or train.batch_size"
            ) from None
        self._blocks: list[tuple[int, int]] = []
        """(begin, end) of those given out, ascending."""

    def take(self, size_bytes: int) -> int | None:
        """Where a block of so many bytes begins; None: no gap is large enough now."""
        size, begin = aligned(size_bytes), self.reserved_bytes
        for place, (used, end) in enumerate([*self._blocks, (len(self.memory), 0)]):
            if used - begin >= size:
                self._blocks.insert(place, (begin, begin + size))
                return begin
            begin = end
        return None

    def give_back(self, begin: int) -> None:
        """The block that begins there is free again."""
        self._blocks = [block for block in self._blocks if block[0] != begin]

    def close(self) -> None:
        """Let go of the file; the memory goes when its last array does."""
        os.close(self.file)


def aligned(size_bytes: int) -> int:
    """`size_bytes`, or the next multiple of a cache line."""
    return -(-size_bytes // _ALIGN_BYTES) * _ALIGN_BYTES
