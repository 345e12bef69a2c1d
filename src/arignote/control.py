"""The launcher's control folder, through which workers on its host tell it what it must know.

On another host the folder is not there; then nothing is told, and the launcher relies on the
run's events.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CONTROL_VARIABLE = "ARIGNOTE_CONTROL"
JOINING, MET = "joining", "met"
"""A worker begins to join the world; all have joined."""


PROCESS_VARIABLE = "ARIGNOTE_PROCESS"
"""The id of the process that the launcher started as this worker, where another one is it."""


def folder() -> Path | None:
    """The control folder, where there is one."""
    named = os.environ.get(CONTROL_VARIABLE)
    return Path(named) if named is not None and Path(named).is_dir() else None


def joining(pid: int) -> str:
    """The mark of process `pid` as it begins to join."""
    return f"{JOINING}-{pid}"


def process() -> int:
    """The id by which the launcher knows this worker."""
    return int(os.environ.get(PROCESS_VARIABLE, os.getpid()))


def mark(name: str) -> None:
    """Leave the mark `name`."""
    here = folder()
    if here is not None:
        with suppress(OSError):
            (here / name).touch()
