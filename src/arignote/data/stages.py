"""What loading a batch spends its time on, and which file it is at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

STAGES = ("read", "decode", "augment", "copy")
"""From the disk; to pixels; crop, mirror and the like; into the batch's memory."""

_FILE_BYTES = 1000
"""Of a file's name that are shown."""
VIEW_BYTES = _FILE_BYTES + 2

_seconds = dict.fromkeys(STAGES, 0.0)
_view: list[memoryview] = []


@contextmanager
def stage(name: str, file: str = "") -> Iterator[None]:
    """Book what is done inside to the stage `name`; `file`: what is read meanwhile."""
    if file:
        show(file)
    begun = time.perf_counter()
    try:
        yield
    finally:
        _seconds[name] += time.perf_counter() - begun
        if file:
            show("")


def take_seconds() -> dict[str, float]:
    """Seconds by stage since the last call."""
    taken = dict(_seconds)
    _seconds.update(dict.fromkeys(STAGES, 0.0))
    return taken


def show_in(view: memoryview) -> None:
    """From now on write there, `VIEW_BYTES` long, which file is being read: for `file_shown`."""
    _view[:] = [view]
    show("")


def file_shown(view: memoryview) -> str:
    """The file that another process is reading, or nothing."""
    length = int.from_bytes(view[:2], "little")
    return bytes(view[2 : 2 + length]).decode(errors="replace")


def show(file: str) -> None:
    """Say which file is being read from now on, none: ""; where `show_in` said, else nowhere."""
    if not _view:
        return
    # The end of a long name says more than its beginning.
    name = file.encode(errors="surrogateescape")[-_FILE_BYTES:]
    view = _view[0]
    view[2 : 2 + len(name)] = name
    view[:2] = len(name).to_bytes(2, "little")
