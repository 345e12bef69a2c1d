"""Shared memory that an MPI leaves behind when its processes are killed.

The bad story: MPICH and Open MPI name their segments in /dev/shm and remove them at the end of
a run; killed workers never come to that end; after some crashes the memory of the host is full
of segments that belong to nobody. So we note which of them our workers map, and remove those
that are left once all our processes are gone. Only names that an MPI gives are touched.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_NAMES = ("mpich_shm_", "sm_segment.", "vader_segment.")


def mapped_segments(pid: int) -> set[Path]:
    """The MPI segments that process `pid` maps (none, once it is gone)."""
    found: set[Path] = set()
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            _, slash, name = line.partition(" /dev/shm/")
            if slash and name.startswith(_NAMES):
                found.add(Path("/dev/shm", name.removesuffix(" (deleted)")))
    return found


def remove_segments(segments: set[Path]) -> None:
    """Remove those that are still there."""
    for segment in segments:
        with suppress(OSError):
            segment.unlink(missing_ok=True)
