"""summary.json: what a run came to."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from arignote.recorder.phases import PHASES

SUMMARY_FILE = "summary.json"


_NOTABLE_SHARE, _NOTABLE_SECONDS = 0.05, 0.001
"""Of a step: shorter waits are not worth a word, and a message to a loader takes about so long."""


class Loading(BaseModel):
    """What loading the training data cost since the workers were started the last time."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    loaders: int
    """Processes a worker; 0: it loaded its batches itself."""
    restarts: int
    """Loaders that ended, over all workers, and were started again."""
    seconds: dict[str, float]
    """By stage (read, decode, augment, copy), summed over all workers and loaders."""
    workers: int
    steps: int
    wait_seconds: float
    """In which a worker had no batch, the mean over the workers."""
    step_seconds: float
    """Of all its steps, waiting included."""

    @classmethod
    def of(cls, everybodys: Sequence[Mapping[str, Any] | None]) -> Loading | None:
        """Of all workers: stages and restarts are summed, of the rest the mean."""
        known = [loading for loading in everybodys if loading is not None]
        if not known:
            return None

        def mean(name: str) -> float:
            return float(sum(loading[name] for loading in known)) / len(known)

        return cls(
            loaders=known[0]["loaders"],
            restarts=sum(loading["restarts"] for loading in known),
            seconds={
                stage: sum(loading["seconds"][stage] for loading in known)
                for stage in known[0]["seconds"]
            },
            workers=len(known),
            steps=round(mean("steps")),
            wait_seconds=mean("wait_seconds"),
            step_seconds=mean("step_seconds"),
        )

    def advice(self) -> str:
        """A line on what to do about the waiting; empty where it is not worth it."""
        share = self.wait_seconds / self.step_seconds if self.step_seconds else 0.0
        busy = sum(self.seconds.values())
        each = self.wait_seconds / max(self.steps, 1)
        if share < _NOTABLE_SHARE or each < _NOTABLE_SECONDS or not busy:
            return ""
        stage, most = max(self.seconds.items(), key=lambda item: item[1])
        # So many make a batch in the time in which one is trained.
        enough = math.ceil(busy / self.workers / (self.step_seconds - self.wait_seconds))
        cure = f"--loaders {max(enough, 1)} would end that"
        if enough <= self.loaders:
            cure = "more loaders alone do not help: the workers leave them too little of the cores"
        return (
            f"waiting for data took {share:.0%} of the steps; {most / busy:.0%} of the loading is "
            f"{stage}; {cure}"
        )


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
    loading: Loading | None = None
    """None: the model loads its own data."""
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
