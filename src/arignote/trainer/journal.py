"""What a run writes about itself: events while it goes on, a summary at its end.

Every worker has a journal, since sums over workers are collective; only rank 0's writes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arignote.comm.base import World
from arignote.errors import ArignoteError
from arignote.log import logger
from arignote.recorder.events import EventLog
from arignote.recorder.phases import PHASES, Recorder
from arignote.recorder.summary import SUMMARY_FILE, Summary
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
        self._last_samples = 0.0
        self._samples = 0.0
        self._epoch_seconds = dict(recorder.seconds)

    def event(self, event: str, **values: Any) -> None:
        """Write one event (rank 0)."""
        if self._log is not None:
            self._log.write(event, **{k: _plain(v) for k, v in values.items()})

    def warn(self, message: str) -> None:
        """Write a warning, and say it aloud: the disk may be what it is about."""
        if self._log is not None:
            logger.warning(message)
            self._log.write("warning", message=message)

    def begin(self, position: dict[str, Any], epochs: int) -> None:
        """The loop starts here, to go on until `epochs` are done."""
        self._last_time = time.monotonic()
        self._epoch_seconds = dict(self.recorder.seconds)
        self.event("begin", **position, epochs=epochs, workers=self.world.size, **self._facts())

    def step(self, epochs_done: float, result: StepResult) -> None:
        """Note a step; a record is written every so many seconds."""
        self._samples += result.samples
        now = time.monotonic()
        if self._log is None or now - self._last_time < self._every_seconds:
            return
        rate = (self._samples - self._last_samples) / (now - self._last_time)
        self._last_time, self._last_samples = now, self._samples
        self.event(
            "step",
            step=self.recorder.steps,
            epoch=epochs_done,
            loss=result.loss,
            learning_rate=self._learning_rate(),
            images_per_second=rate,
            seconds=dict(self.recorder.seconds),
            wire_bytes=self.recorder.wire_bytes,
        )

    def epoch(self, epoch: int) -> None:
        """Write what the finished epoch came to, over all workers; collective."""
        sums = self._over_workers(self.recorder.take_train_sums())
        own = {p: self.recorder.seconds[p] - self._epoch_seconds[p] for p in PHASES}
        self._epoch_seconds = dict(self.recorder.seconds)
        seconds = {p: total / self.world.size for p, total in self._over_workers(own).items()}
        spent = sum(seconds.values())
        self.event(
            "epoch",
            epoch=epoch,
            step=self.recorder.steps,
            loss=_mean(sums, "loss"),
            error=_mean(sums, "error"),
            images_per_second=sums["samples"] / spent if spent else 0.0,
            seconds=seconds,
            learning_rate=self._learning_rate(),
        )

    def validation(self, seconds: float) -> dict[str, float]:
        """The means over the whole validation set; collective."""
        sums = self._over_workers(self.recorder.take_validation_sums())
        means = {name: _mean(sums, name) for name in ("loss", "error", "error_top5")}
        means["accuracy"] = 1 - means["error"]
        self.event(
            "validation",
            step=self.recorder.steps,
            seconds=seconds,
            samples=round(sums["samples"]),
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
    ) -> None:
        """Write the summary; collective."""
        recorder = self.recorder
        totals = self._over_workers(
            {
                **recorder.seconds,
                "samples": float(recorder.samples),
                "wire_bytes": float(recorder.wire_bytes),
            }
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

    def _over_workers(self, sums: dict[str, float]) -> dict[str, float]:
        total = self.world.meet(list(sums.values()), "the summing up of the records")
        return dict(zip(sums, total.tolist(), strict=True))


def _mean(sums: dict[str, float], name: str) -> float:
    return sums[name] / sums["samples"] if sums["samples"] else math.nan


def _plain(value: Any) -> Any:
    """NaN and infinity are no JSON: null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
