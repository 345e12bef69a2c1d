"""Shared memory that an MPI leaves behind when its processes are killed.

The bad story: MPICH and Open MPI name their segments in /dev/shm and remove them at the end of
a run; killed workers never come to that end; after some crashes the memory of the host is full
of segments that belong to nobody. So we note which of them our workers map, and remove those
that are left once all our processes are gone. Only names that an MPI gives are touched.

A launcher that is killed itself cannot. So its notes lie in its control folder, under a lock that
goes with it, and the next launcher on this host removes what they name and nobody maps any more.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

_NAMES = ("mpich_shm_", "sm_segment.", "vader_segment.")
_SHARED = Path("/dev/shm")
_NOTES = "segments.json"


def mapped_segments(pid: int) -> set[Path]:
    """The MPI segments that process `pid` maps (none, once it is gone)."""
    found: set[Path] = set()
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            _, slash, name = line.partition(f" {_SHARED}/")
            if slash and name.startswith(_NAMES):
                found.add(_SHARED / name.removesuffix(" (deleted)"))
    return found


class NotedSegments:
    """The segments of one run, noted in its control folder for who comes after us."""

    def __init__(self, folder: Path) -> None:
        self._segments: set[Path] = set()
        self._notes = (folder / _NOTES).open("w")
        try:
            fcntl.flock(self._notes, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._is_held = True
        except OSError:
            # Without a lock nobody could tell whether we are there: nothing is written.
            self._is_held = False

    def __enter__(self) -> NotedSegments:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._notes.close()

    def note(self, pids: Iterable[int]) -> None:
        """Remember what these processes map now."""
        before = len(self._segments)
        for pid in pids:
            self._segments |= mapped_segments(pid)
        if len(self._segments) > before and self._is_held:
            # A full disk costs the notes, never the run.
            with suppress(OSError):
                self._notes.seek(0)
                self._notes.truncate()
                json.dump({str(s): _identity(s) for s in self._segments}, self._notes)
                self._notes.flush()

    def remove(self) -> None:
        """Remove those that are still there."""
        for segment in self._segments:
            with suppress(OSError):
                segment.unlink(missing_ok=True)


def remove_left(temporary: Path) -> None:
    """Remove what launchers of this user noted and, killed, have not removed.

    `temporary`: where their control folders are.
    """
    for notes in temporary.glob(f"arignote-*/{_NOTES}"):
        # Whatever cannot be read, or is held by who wrote it, is left.
        with suppress(OSError, ValueError, TypeError), notes.open("r+") as file:
            if notes.parent.lstat().st_uid != os.getuid():
                continue
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another run's segment may have got the same name since.
            left = [
                segment
                for name, identity in dict(json.load(file)).items()
                if (segment := Path(name)).parent == _SHARED
                and segment.name.startswith(_NAMES)
                and identity is not None
                and identity == _identity(segment)
            ]
            if left and not any(mapped_segments(pid) & set(left) for pid in psutil.pids()):
                for segment in left:
                    segment.unlink(missing_ok=True)
                shutil.rmtree(notes.parent, ignore_errors=True)


def _identity(segment: Path) -> str | None:
    """Its device and inode; None: it is gone."""
    try:
        status = segment.stat()
    except OSError:
        return None
    return f"{status.st_dev}:{status.st_ino}"
