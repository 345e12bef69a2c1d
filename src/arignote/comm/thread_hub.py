"""Where workers that are threads meet, and leave messages for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from arignote.comm.script import Script, Text
from arignote.errors import LostWorkerError


class Hub:
    """Where the threads lay down what they bring to a meeting, and pick up what all brought."""

    def __init__(self, size: int, script: Script | None) -> None:
        self.size = size
        self.script = script
        self.changed = threading.Condition(threading.RLock())
        self.tables: dict[int, Table] = {}
        """By the number of the meeting; those to which somebody has yet to come."""
        self.letters: dict[tuple[int, int, int, int], torch.Tensor] = {}
        """(from, to, tag, how many-th) -> what is sent."""

    def pause(self, at: Text) -> None:
        """Before every operation: with a script, it may be the turn of others."""
        if self.script is not None:
            self.script.pause(at)

    def told(self) -> None:
        """Something was laid down."""
        with self.changed:
            self.changed.notify_all()
        if self.script is not None:
            self.script.progress()

    def wait_for(self, condition: Callable[[], bool], lost: Text, timeout_seconds: float) -> None:
        """Until `condition` holds; `lost` says who has not done what.

        Raises:
            LostWorkerError: not in time. (In a script it is a `DeadlockError`.)
        """
        if self.script is not None and self.script.plays():
            self.script.wait_until(condition, lost)
            return
        with self.changed:
            if not self.changed.wait_for(condition, timeout_seconds):
                raise LostWorkerError(f"{lost()} within {timeout_seconds:g} s")

    def lay(self, turn: int, rank: int, item: Any) -> Table:
        """Come to meeting number `turn` with `item`."""
        self.pause(lambda: "comes to a meeting")
        with self.changed:
            table = self.tables.setdefault(turn, Table(self))
            table.items[rank] = item
            if table.complete():
                # Everybody holds it by now; later meetings have tables of their own.
                del self.tables[turn]
        self.told()
        return table

    def collect(self, table: Table, what: str, timeout_seconds: float) -> list[Any]:
        """All items by rank, once all are there."""
        self.wait_for(table.complete, lambda: table.missing(what), timeout_seconds)
        return [table.items[rank] for rank in range(self.size)]


class Table:
    """One meeting, and what was brought to it."""

    def __init__(self, hub: Hub) -> None:
        self.items: dict[int, Any] = {}
        self._hub = hub

    def complete(self) -> bool:
        """Whether everybody has come."""
        return len(self.items) == self._hub.size

    def done(self) -> bool:
        """The same, asked from outside."""
        self._hub.pause(lambda: "asks whether all came to a meeting")
        return self.complete()

    def missing(self, what: str) -> str:
        """Who did not come."""
        names = ", ".join(f"worker {r}" for r in range(self._hub.size) if r not in self.items)
        return f"{names} did not come to {what}"


@dataclass
class Sent:
    """A letter in the hub: copied, so done at once."""

    peer: int

    def done(self) -> bool:
        """Always."""
        return True


class Awaited:
    """A letter that may not be in the hub yet."""

    def __init__(self, hub: Hub, key: tuple[int, int, int, int], wire: torch.Tensor) -> None:
        self.peer = key[0]
        self._hub, self._key, self._wire = hub, key, wire
        self._done = False

    def done(self) -> bool:
        """Whether it has come; if so, it is in the memory for it."""
        self._hub.pause(lambda: f"asks for a message of worker {self.peer}")
        return self.take()

    def take(self) -> bool:
        """Take it, if it is there."""
        with self._hub.changed:
            if not self._done and self._key in self._hub.letters:
                letter = self._hub.letters.pop(self._key)
                if letter.numel() != self._wire.numel():
                    raise ValueError(
                        f"a message of {letter.numel()} elements for {self._wire.numel()}"
                    )
                self._wire.copy_(letter)
                self._done = True
        return self._done
