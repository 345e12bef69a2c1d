"""What a bench measures, as rows, and how they travel from the workers to the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median, quantiles
from typing import Any, ClassVar

REPORT_PREFIX = "arignote-bench "
"""The line on rank 0's stdout that holds the report begins with it."""
FP32_BYTES = 4


_KINDS: dict[str, type[Measured]] = {}
"""Those that are known by a name: whoever parses them has imported them."""


@dataclass(frozen=True)
class Measured:
    """Base of all rows."""

    kind: ClassVar[str] = ""
    """What JSON calls them."""

    def __init_subclass__(cls, *, kind: str = "") -> None:
        super().__init_subclass__()
        cls.kind = kind
        if kind:
            _KINDS[kind] = cls

    def to_json(self) -> dict[str, Any]:
        """The fields that this row has, and what kind of row it is."""
        found = {key: value for key, value in asdict(self).items() if value is not None}
        return {"kind": self.kind, **found} if self.kind else found


@dataclass(frozen=True)
class Row(Measured):
    """One thing that was timed."""

    name: str
    elements: int
    """Of the vector, or parameters of the model."""
    workers: int
    median_seconds: float
    """Over the rounds; a round lasts as long as its slowest worker."""
    spread: tuple[float, float]
    """Lower and upper quartile, in seconds."""
    wire_bytes: int
    """What the worker that sends most sends in a round."""
    chosen: str | None = None
    """What auto chose."""
    samples_per_second: float | None = None
    """Of a step: samples of all workers."""
    ratios: dict[str, float] | None = None
    """This one's time over that of others, by their names: the median over the rounds, in each of
    which the machine was as fast for both. None: not known by rounds."""


def median_and_spread(seconds: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median and the quartiles of what was measured at least once."""
    if len(seconds) == 1:
        return seconds[0], (seconds[0], seconds[0])
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    return median(seconds), (low, high)


def in_step_bound(workers: int, slow: float) -> float:
    """What is left of all workers' speed where all go as slowly as the one that is `slow`.

    n/s of n - 1 + 1/s; n = 4, s = 2: 57 %.
    """
    return workers / slow / (workers - 1 + 1 / slow)


def visit_bytes(elements: int) -> int:
    """What a visit brings to the centre and takes away, in float32."""
    return 2 * FP32_BYTES * elements


def saturation(
    workers: int, elements: int, *, period: int, step_seconds: float, bytes_per_second: float
) -> float:
    """The centre's load: p 2n / (tau T b); at 1 it can take no more."""
    return workers * visit_bytes(elements) / (period * step_seconds * bytes_per_second)


@dataclass(frozen=True)
class PaceRow(Measured, kind="pace"):
    """A rule with one slow worker, the last."""

    name: str
    elements: int
    workers: int
    asynchronous: bool
    slow: float
    """How many times longer its step takes."""
    steps: tuple[int, ...]
    """Of each worker."""
    seconds: float
    """From the common start until all were through."""
    alone: tuple[float, ...]
    """Steps a second of each worker without exchanging."""
    calc: tuple[float, ...]
    """Seconds of each worker."""
    comm: tuple[float, ...]
    sync: tuple[float, ...]
    wait: tuple[float, ...]
    """Until the next batch was shared out."""
    exchanges: tuple[int, ...] | None = None
    """Rounds, visits or letters of each worker; None: one every step."""

    @property
    def steps_per_second(self) -> float:
        """Of all workers."""
        return sum(self.steps) / self.seconds

    @property
    def kept(self) -> float:
        """Part of the speed that the workers have without exchanging."""
        return self.steps_per_second / sum(self.alone)

    @property
    def bound(self) -> float | None:
        """The most that a rule can keep whose workers keep step."""
        return None if self.asynchronous else in_step_bound(self.workers, self.slow)

    def to_json(self) -> dict[str, Any]:
        """See `Measured.to_json`; with what follows from the fields."""
        return {**super().to_json(), "kept": self.kept, "bound": self.bound}


@dataclass(frozen=True)
class StreamRow(Measured, kind="stream"):
    """Some workers that visit the centre without pause."""

    workers: int
    elements: int
    visits_per_second: float
    copies_per_second: float
    """Plain copies of such a vector, by one worker."""

    @property
    def bytes_per_second(self) -> float:
        """What the centre takes in and gives out."""
        return self.visits_per_second * visit_bytes(self.elements)

    @property
    def of_copy(self) -> float:
        """The same over the bytes that a copy writes in that time."""
        return self.bytes_per_second / (self.copies_per_second * FP32_BYTES * self.elements)

    def to_json(self) -> dict[str, Any]:
        """See `Measured.to_json`; with what follows from the fields."""
        more = {"bytes_per_second": self.bytes_per_second, "of_copy": self.of_copy}
        return {**super().to_json(), **more}


@dataclass(frozen=True)
class LoadRow(Measured, kind="load"):
    """Some workers that visit servers every period."""

    workers: int
    step_seconds: float
    model_load: float
    """p 2n / (tau T b)."""
    reached_load: float
    """The bytes of the visits that were made, over what the servers can do."""
    busy: float
    """The busiest server's own word: its part of the time in which it had something to do."""
    kept: float
    """Part of the workers' time that they spend in steps, not in visits."""
    comm_seconds: float
    """Of a step, mean over workers."""


@dataclass(frozen=True)
class ModelRow(Measured, kind="model"):
    """When servers are full: by the model, and as measured."""

    period: int
    step_seconds: float
    bytes_per_second: float
    """The most that they took in and gave out: b."""
    full_at: float
    """Workers at which the model's load is 1."""
    measured_at: float | None = None
    """The most visits that were made, over those of one worker; None: servers were not full."""


def measured_saturation(loads: Sequence[LoadRow]) -> float | None:
    """How many times one worker's visits the servers can serve: where their curve becomes flat.

    None where even most workers would not fill them by the model: the curve still rises there.
    """
    first, last = loads[0], loads[-1]
    if last.model_load < 1:
        return None
    return max(load.reached_load for load in loads) / first.reached_load * first.workers


@dataclass(frozen=True)
class CommRow(Measured, kind="comm"):
    """What exchanging costs a step of a rule, mean over workers and steps."""

    name: str
    elements: int
    workers: int
    comm_seconds: float
    sync_seconds: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.comm_seconds + self.sync_seconds


@dataclass(frozen=True)
class Report:
    """All rows of a bench, and where they were measured."""

    machine: dict[str, Any]
    commit: str
    rows: tuple[Measured, ...]

    def text(self) -> str:
        """One line of JSON."""
        rows = [row.to_json() for row in self.rows]
        return json.dumps({"machine": self.machine, "commit": self.commit, "rows": rows})

    @classmethod
    def parse(cls, text: str) -> Report:
        """What `text` gave."""
        found = json.loads(text)
        rows = tuple(_parse_row(row) for row in found["rows"])
        return cls(found["machine"], found["commit"], rows)


def _parse_row(found: dict[str, Any]) -> Measured:
    kind = _KINDS.get(found.get("kind", ""), Row)
    known = {field.name for field in fields(kind)}
    # JSON knows lists only.
    return kind(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in found.items() if k in known}
    )
