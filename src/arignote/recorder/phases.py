"""Where every second of a step went.

Time is a line cut into pieces: `start()` sets the knife, `end(phase)` books everything since
the last cut to `phase`. So the phases of a step add up to the step, whatever happens in it.
A device runs behind the process that tells it what to do: there a cut is an event in its work
(`accelerator.DeviceClock`), read once the device has got there, so that nobody waits for it.
(Theano-MPI's recorder has the same two calls and the same four phases.)
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

PHASES = ("calc", "comm", "sync", "wait")
"""compute; moving bytes; waiting for other workers; waiting for data."""


@dataclass
class Note:
    """Readings of one measure, summed up."""

    readings: int = 0
    total: float = 0.0
    largest: float = -math.inf
    last: float = math.nan

    def add(self, value: float) -> None:
        """One more reading."""
        self.readings += 1
        self.total += value
        self.largest = max(self.largest, value)
        self.last = value

    @property
    def mean(self) -> float:
        """Of all readings."""
        return self.total / self.readings if self.readings else math.nan


class Clock(Protocol):
    """Cuts time into pieces."""

    def cut(self) -> Any:
        """This point in time."""

    def seconds(self, since: Any, until: Any, *, wait: bool) -> float | None:
        """Between two cuts; None: not known yet, and not to be waited for."""


class HostClock:
    """The time of this process.

    Args:
        read: seconds from any origin.
    """

    def __init__(self, read: Callable[[], float] = time.perf_counter) -> None:
        self.cut = read

    def seconds(self, since: float, until: float, *, wait: bool) -> float:
        """See `Clock.seconds`."""
        return until - since


class Recorder:
    """Counts one worker's seconds, samples, steps and bytes, and sums up its losses."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or HostClock()
        self._cut = self._clock.cut()
        self._pieces: deque[tuple[str, Any, Any]] = deque()
        """Cut off, and not booked yet: phase, begin, end."""
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self.steps = 0
        self.samples = 0
        self.wire_bytes = 0
        self.exchanges = 0
        self.notes: dict[str, Note] = {}
        """Other measures of a rule (staleness, consensus_distance, ...), by name."""
        self._train_sums: dict[str, float] = {}
        self._validation_sums: dict[str, float] = {}

    def start(self) -> None:
        """Begin a step: what came before belongs to none."""
        self._cut = self._clock.cut()

    def end(self, phase: str) -> None:
        """Book the seconds since the last `start` or `end` to `phase`."""
        now = self._clock.cut()
        self._pieces.append((phase, self._cut, now))
        self._cut = now
        self._book(wait=False)

    @property
    def seconds(self) -> dict[str, float]:
        """By phase, as far as they are known; of a device the last ones are still to come."""
        self._book(wait=False)
        return self._seconds

    def _book(self, *, wait: bool) -> None:
        while self._pieces:
            phase, since, until = self._pieces[0]
            spent = self._clock.seconds(since, until, wait=wait)
            if spent is None:
                return
            self._seconds[phase] += spent
            self._pieces.popleft()

    def sent(self, wire_bytes: int) -> None:
        """Count bytes that this worker put on the wire."""
        self.wire_bytes += wire_bytes

    def note(self, name: str, value: float) -> None:
        """Add one reading of a rule's own measure."""
        self.notes.setdefault(name, Note()).add(value)

    def train_error(self, count: int, cost: float, error: float, samples: int = 1) -> None:
        """Note a training batch: mean loss and mean error of its `samples` (step `count`)."""
        _add(self._train_sums, samples, loss=cost, error=error)

    def val_error(
        self, count: int, cost: float, error: float, error_top_5: float, samples: int = 1
    ) -> None:
        """Note a validation batch: mean loss, top-1 and top-5 error of its `samples`."""
        _add(self._validation_sums, samples, loss=cost, error=error, error_top5=error_top_5)

    def take_train_sums(self) -> dict[str, float]:
        """Sums over samples since the last call: samples, loss, error."""
        taken, self._train_sums = self._train_sums, {}
        return {"samples": 0.0, "loss": 0.0, "error": 0.0, **taken}

    def take_validation_sums(self) -> dict[str, float]:
        """Sums over samples since the last call: samples, loss, error, error_top5."""
        taken, self._validation_sums = self._validation_sums, {}
        return {"samples": 0.0, "loss": 0.0, "error": 0.0, "error_top5": 0.0, **taken}

    def state_dict(self) -> dict[str, Any]:
        """The counters, for a checkpoint."""
        self._book(wait=True)
        return {
            "seconds": dict(self._seconds),
            "steps": self.steps,
            "samples": self.samples,
            "wire_bytes": self.wire_bytes,
            "exchanges": self.exchanges,
            "notes": {name: asdict(note) for name, note in self.notes.items()},
            "train_sums": dict(self._train_sums),
        }

    def merge(self, states: Sequence[dict[str, Any]], rank: int) -> None:
        """Go on from the counters of workers that were more or fewer than now.

        Seconds become the mean of theirs; what is counted over all workers goes to rank 0, so
        that sums over the workers stay what they were.
        """
        self.steps = int(states[0]["steps"])
        for phase in PHASES:
            self._seconds[phase] = sum(s["seconds"][phase] for s in states) / len(states)
        if rank:
            return
        self.samples = sum(int(s["samples"]) for s in states)
        self.wire_bytes = sum(int(s["wire_bytes"]) for s in states)
        self.exchanges = sum(int(s["exchanges"]) for s in states)
        for state in states:
            for name, value in state["train_sums"].items():
                self._train_sums[name] = self._train_sums.get(name, 0.0) + value

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting from `state`."""
        self._seconds = dict(state["seconds"])
        self.steps = int(state["steps"])
        self.samples = int(state["samples"])
        self.wire_bytes = int(state["wire_bytes"])
        self.exchanges = int(state["exchanges"])
        self.notes = {name: Note(**note) for name, note in state["notes"].items()}
        self._train_sums = dict(state["train_sums"])


def _add(sums: dict[str, float], samples: int, **means: float) -> None:
    sums["samples"] = sums.get("samples", 0.0) + samples
    for name, mean in means.items():
        # 0 samples of a mean over nothing (NaN) are nothing.
        sums[name] = sums.get(name, 0.0) + (mean * samples if samples else 0.0)
