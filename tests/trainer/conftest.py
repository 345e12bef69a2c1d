"""Whole training runs with workers as threads of the test process: fast, and no MPI."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.load import nest, resolve
from arignote.config.model_source import find_model
from arignote.recorder.events import read_events
from arignote.trainer.loop import Trainer
from arignote.trainer.stopping import StopFlag
from arignote.worker import build_trainer


@dataclass
class Result:
    """What a run left."""

    trainer: Trainer
    summary: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def sha(self) -> str:
        return str(self.summary["weights_sha256"])


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Result]:
    """train(workers, {"train.epochs": 2, ...}, folder="a", resume=False, stop_at=None)."""

    def run(
        workers: int,
        settings: dict[str, Any],
        *,
        folder: str = "run",
        resume: bool = False,
        stop_at: int | None = None,
    ) -> Result:
        model = settings.get("run.model", "digits-mlp")
        layers = [find_model(model).defaults, {"run.model": model}, settings]
        resolved = resolve([("", nest(layer, "")) for layer in layers])
        resolved = resolve([("", resolved.model_dump()), ("", {"launch": {"workers": workers}})])
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        worlds = [SerialWorld()] if workers == 1 else thread_worlds(workers)
        # Built one after the other, since torch's generator belongs to the whole process.
        trainers = [
            build_trainer(resolved, world, path, StopFlag(), resume=resume) for world in worlds
        ]
        if stop_at is not None:
            _stop(trainers[-1], stop_at)
        run_threads(worlds, lambda world: trainers[world.rank].run())
        summary = json.loads((path / "summary.json").read_text())
        return Result(trainers[0], summary, read_events(path))

    return run


def _stop(trainer: Trainer, step: int) -> None:
    """Let one worker be told to stop while it computes step number `step`."""
    train = trainer.task.train

    def told(*arguments: Any) -> Any:
        if trainer.position.steps + 1 == step:
            trainer.stop.is_set = True
        return train(*arguments)

    trainer.task.train = told  # type: ignore[method-assign]
