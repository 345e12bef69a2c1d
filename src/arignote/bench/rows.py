"""What a bench measures, as one row, and how it travels from the workers to the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

REPORT_PREFIX = "arignote-bench "
"""The line on rank 0's stdout that holds the report begins with it."""


@dataclass(frozen=True)
class Row:
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

    def to_json(self) -> dict[str, Any]:
        """The fields that this row has."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def median_and_spread(seconds: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """The median and the quartiles of what was measured at least once."""
    if len(seconds) == 1:
        return seconds[0], (seconds[0], seconds[0])
    low, _, high = quantiles(seconds, n=4, method="inclusive")
    return median(seconds), (low, high)


@dataclass(frozen=True)
class Report:
    """All rows of a bench, and where they were measured."""

    machine: dict[str, Any]
    commit: str
    rows: tuple[Row, ...]

    def text(self) -> str:
        """One line of JSON."""
        rows = [row.to_json() for row in self.rows]
        return json.dumps({"machine": self.machine, "commit": self.commit, "rows": rows})

    @classmethod
    def parse(cls, text: str) -> Report:
        """What `text` gave."""
        found = json.loads(text)
        rows = [Row(**{**row, "spread": tuple(row["spread"])}) for row in found["rows"]]
        return cls(found["machine"], found["commit"], tuple(rows))
