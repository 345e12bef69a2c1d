"""events.jsonl: one JSON object a line, written while the run goes on, only ever appended to.

Every event has `event` (its kind) and `time` (seconds since the epoch). Kinds: start, placement,
exchange, begin, step, epoch, validation, checkpoint, warning, resume, resize (the launcher's), end.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

EVENTS_FILE = "events.jsonl"


class EventLog:
    """The writing end, in rank 0."""

    def __init__(self, run_folder: Path) -> None:
        # Unbuffered: what a full disk refuses must not come back with the next line.
        self._file = (run_folder / EVENTS_FILE).open("ab", buffering=0)

    def write(self, event: str, **values: Any) -> None:
        """Append one event; it is on its way to the disk when this returns.

        A full disk must not end a training: such a line is lost, the next may not be.
        """
        line = json.dumps({"event": event, "time": time.time(), **values}) + "\n"
        with suppress(OSError):
            self._file.write(line.encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class EventTail:
    """The reading end: what came since the last look; a line still being written waits."""

    def __init__(self, run_folder: Path, *, from_end: bool = False) -> None:
        self._path = run_folder / EVENTS_FILE
        self._position = self._path.stat().st_size if from_end and self._path.exists() else 0

    def new(self) -> Iterator[dict[str, Any]]:
        """The events that were completed since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._position)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                parsed = _parse(line)
                if parsed is not None:
                    yield parsed


def read_events(run_folder: Path) -> list[dict[str, Any]]:
    """All events of a run so far."""
    return list(EventTail(run_folder).new())


def _parse(line: bytes) -> dict[str, Any] | None:
    """A line's event; None for one that a crash or a full disk cut short."""
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) and "event" in parsed else None
