"""What a run writes about itself: events while it goes on, a summary at its end.

Every worker has a journal, since sums over workers are collective; only rank 0's writes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arignote.comm.base import World
from arignote.errors import ArignoteError
from arignote.log import logger
from arignote.recorder.events import EventLog
from arignote.recorder.phases import PHASES, Recorder
from arignote.recorder.summary import SUMMARY_FILE, Loading, Summary
from arignote.rules.base import StepResult


class Journal:
    """The run's record.

    Args:
        run_folder: where events and summary go; None on ranks that do not write.
        learning_rate: asked at each step record.
        facts: what the summary says about the run as a whole (model, rule, exchange ...);
            asked once the rule has started.
    """

    def __init__(
        self,
        run_folder: Path | None,
        world: World,
        recorder: Recorder,
        *,
        every_seconds: float,
        learning_rate: Callable[[], float],
        facts: Callable[[], dict[str, Any]],
    ) -> None:
        self.world = world
        self.recorder = recorder
        self._folder = run_folder
        self._log = None if run_folder is None else EventLog(run_folder)
        self._every_seconds = every_seconds
        self._learning_rate = learning_rate
        self._facts = facts
        self._last_time = time.monotonic()
        self._last_consumed: float | None = None
        self._epoch_seconds = dict(recorder.seconds)
        self._begun = (recorder.steps, dict(recorder.seconds))
        """Steps and seconds when these workers were started."""

    def event(self, event: str, **values: Any) -> None:
        """Write one event (rank 0)."""
        if self._log is not None:
            self._log.write(event, **{k: _plain(v) for k, v in values.items()})

    def warn(self, message: str) -> None:
        """Write a warning, and say it aloud: the disk may be what it is about."""
        if self._log is not None:
            logger.warning(message)
            self._log.write("warning", message=message)

    def begin(self, position: dict[str, Any], **task: Any) -> None:
        """The loop starts here, with a task of these facts (`epochs`: to go on until so many)."""
        self._last_time = time.monotonic()
        self._epoch_seconds = dict(self.recorder.seconds)
        self._begun = (self.recorder.steps, dict(self.recorder.seconds))
        self.event("begin", **position, **task, workers=self.world.size, **self._facts())

    def step(self, step: int, consumed: float, epochs_done: float, result: StepResult) -> None:
        """Note a step; a record is written every so many seconds.

        Args:
            step: of all workers together.
            consumed: samples of all workers since the start of the run.
        """
        now = time.monotonic()
        if self._last_consumed is None:
            self._last_consumed = consumed
        if self._log is None or now - self._last_time < self._every_seconds:
            return
        rate = (consumed - self._last_consumed) / (now - self._last_time)
        self._last_time, self._last_consumed = now, consumed
        notes = {name: note.last for name, note in self.recorder.notes.items()}
        self.event(
            "step",
            step=step,
            epoch=epochs_done,
            loss=result.loss,
            learning_rate=self._learning_rate(),
            images_per_second=rate,
            seconds=dict(self.recorder.seconds),
            wire_bytes=self.recorder.wire_bytes,
            own_steps=self.recorder.steps,
            exchanges=self.recorder.exchanges,
            **notes,
        )

    def epoch(self, epoch: int, step: int) -> None:
        """Write what the finished epoch came to, over all workers; collective."""
        sums = self._over_workers(self.recorder.take_train_sums())
        own = {p: self.recorder.seconds[p] - self._epoch_seconds[p] for p in PHASES}
        self._epoch_seconds = dict(self.recorder.seconds)
        seconds = {p: total / self.world.size for p, total in self._over_workers(own).items()}
        spent = sum(seconds.values())
        self.event(
            "epoch",
            epoch=epoch,
            step=step,
            loss=_mean(sums, "loss"),
            error=_mean(sums, "error"),
            images_per_second=sums["samples"] / spent if spent else 0.0,
            seconds=seconds,
            learning_rate=self._learning_rate(),
        )

    def validation(self, seconds: float, step: int, *, alone: bool = False) -> dict[str, float]:
        """The means over the whole validation set; collective, or worker 0's `alone`."""
        own = self.recorder.take_validation_sums()
        sums = own if alone else self._over_workers(own)
        means = validation_means(sums)
        self.event(
            "validation",
            step=step,
            seconds=seconds,
            samples=round(sums["samples"]),
            **self._last("consensus_distance"),
            **means,
        )
        return means

    def finish(
        self,
        *,
        status: str,
        steps: int,
        epochs: int,
        validation: dict[str, float],
        weights_sha256: str,
        loading: dict[str, Any] | None,
    ) -> None:
        """Write the summary; collective.

        Args:
            loading: what `Task.loading` says of this worker.
        """
        recorder = self.recorder
        totals = self._over_workers(
            {
                **recorder.seconds,
                "samples": float(recorder.samples),
                "wire_bytes": float(recorder.wire_bytes),
                "exchanges": float(recorder.exchanges),
            }
        )
        everybodys = self.world.gather(
            {
                "steps": recorder.steps,
                "notes": {k: asdict(n) for k, n in recorder.notes.items()},
                "loading": self._loading(loading),
            },
            "the summing up of the records",
        )
        seconds = {phase: totals[phase] / self.world.size for phase in PHASES}
        spent = sum(seconds.values())
        if self._folder is None:
            return
        summary = Summary(
            status=status,
            workers=self.world.size,
            steps=steps,
            epochs=epochs,
            samples=round(totals["samples"]),
            seconds=seconds,
            images_per_second=totals["samples"] / spent if spent else 0.0,
            wire_bytes=round(totals["wire_bytes"]),
            exchanges=round(totals["exchanges"]),
            worker_steps=[theirs["steps"] for theirs in everybodys],
            notes=_merged([theirs["notes"] for theirs in everybodys]),
            loading=Loading.of([theirs["loading"] for theirs in everybodys]),
            metrics={k: v for k, v in validation.items() if math.isfinite(v)},
            weights_sha256=weights_sha256,
            **self._facts(),
        )
        path = self._folder / SUMMARY_FILE
        temporary = path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(summary.model_dump(), indent=1) + "\n")
            temporary.replace(path)
        except OSError as error:
            raise ArignoteError(f"the run is over but {path} cannot be written: {error}") from None
        self.event("end", status=status, step=steps)

    def close(self) -> None:
        """Nothing is written after this."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _loading(self, loading: dict[str, Any] | None) -> dict[str, Any] | None:
        """With what this worker did since it was started."""
        if loading is None:
            return None
        steps, before = self._begun
        spent = {phase: self.recorder.seconds[phase] - before[phase] for phase in PHASES}
        made = {"steps": self.recorder.steps - steps, "step_seconds": sum(spent.values())}
        return {**loading, **made, "wait_seconds": spent["wait"]}

    def _last(self, name: str) -> dict[str, float]:
        """The last reading of a rule's measure, where it has one."""
        note = self.recorder.notes.get(name)
        return {} if note is None else {name: note.last}

    def _over_workers(self, sums: dict[str, float]) -> dict[str, float]:
        total = self.world.meet(list(sums.values()), "the summing up of the records")
        return dict(zip(sums, total.tolist(), strict=True))


def validation_means(sums: dict[str, float]) -> dict[str, float]:
    """Loss, accuracy, error (top-1), error_top5 of the sums that a recorder gives."""
    means = {name: _mean(sums, name) for name in ("loss", "error", "error_top5")}
    return {**means, "accuracy": 1 - means["error"]}


def _merged(everybodys: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Mean and maximum of each measure over the readings of all workers."""
    merged = {}
    for name in sorted({name for notes in everybodys for name in notes}):
        notes = [notes[name] for notes in everybodys if name in notes]
        merged[name] = {
            "mean": sum(n["total"] for n in notes) / sum(n["readings"] for n in notes),
            "max": max(n["largest"] for n in notes),
        }
    return merged


def _mean(sums: dict[str, float], name: str) -> float:
    return sums[name] / sums["samples"] if sums["samples"] else math.nan


def _plain(value: Any) -> Any:
    """NaN and infinity are no JSON: null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
