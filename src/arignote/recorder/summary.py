"""summary.json: what a run came to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from arignote.recorder.phases import PHASES

SUMMARY_FILE = "summary.json"


class Summary(BaseModel):
    """The end of a run, in one object."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    status: Literal["finished", "stopped"]
    """stopped: it was told to, and can be resumed."""
    model: str
    data: str
    rule: str
    exchange: str
    library: str
    """What carried the messages."""
    parameters: int
    """Trained parameters of the model."""
    workers: int
    steps: int
    epochs: int
    samples: int
    """Samples that all workers trained on, repeats counted."""
    images_per_second: float
    """Over all workers, by the time spent in steps."""
    seconds: dict[str, float]
    """Seconds in each phase, the mean over the workers."""
    wire_bytes: int
    """Bytes that all workers put on the wire for averaging."""
    exchanges: int = 0
    """Rounds, summed over the workers; of rules that count them."""
    worker_steps: list[int] = []
    """Steps that each worker made itself."""
    notes: dict[str, dict[str, float]] = {}
    """A rule's own measures (staleness, consensus_distance, ...): mean and max of all readings."""
    metrics: dict[str, float]
    """Of the last validation: loss, accuracy, error (top-1), error_top5."""
    weights_sha256: str
    """Digest of the final weights in a canonical order."""


def read_summary(run_folder: Path) -> Summary | None:
    """The summary of a run; None while there is none."""
    path = run_folder / SUMMARY_FILE
    if not path.exists():
        return None
    return Summary(**json.loads(path.read_text()))


def phase_rows(seconds: dict[str, float], steps: int) -> list[tuple[str, float, float, float]]:
    """(phase, seconds, milliseconds a step, share of all) for each phase, then the total."""
    total = sum(seconds.values())
    named = [*((phase, seconds[phase]) for phase in PHASES), ("total", total)]
    return [
        (name, spent, 1000 * spent / max(1, steps), spent / total if total else 0.0)
        for name, spent in named
    ]
