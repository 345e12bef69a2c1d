"""A model that fulfils Theano-MPI's contract, in any framework, as a task."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from arignote.comm.base import World
from arignote.config.settings import Settings
from arignote.errors import UserError
from arignote.exchange.base import Route
from arignote.frameworks.array_replica import ArrayReplica
from arignote.frameworks.seeds import seed_worker
from arignote.models.base import Trainable
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring
from arignote.trainer.task import Task

_REQUIRED = (
    "params",
    "data",
    "epoch",
    "n_epochs",
    "train_iter",
    "val_iter",
    "adjust_hyperp",
    "cleanup",
)


def check_contract(model: object, name: str) -> None:
    """Raise a UserError that names everything of the contract that `model` lacks."""
    lacking = [attribute for attribute in _REQUIRED if not hasattr(model, attribute)]
    if lacking:
        raise UserError(
            f"model {name} is no arignote.Model and lacks {', '.join(lacking)} of the general "
            f"contract ({', '.join(_REQUIRED)})"
        )
    for attribute in ("n_batch_train", "n_batch_val"):
        if not hasattr(model.data, attribute):  # type: ignore[attr-defined]
            raise UserError(f"model {name}: its data lacks {attribute}")


class ContractTask(Task):
    """A `Trainable` in training on one worker: it updates itself, we average its params.

    Its epoch is counted in steps, since its samples are its own affair; so a run of it is
    resumed with the same number of workers.
    """

    can_change_workers = False

    def __init__(self, model: Trainable, settings: Settings, world: World, route: Route) -> None:
        for name, value, default in (
            ("train.mix", settings.train.mix, "none"),
            ("loading.normalise", settings.loading.normalise, "loader"),
        ):
            if value != default:
                raise UserError(
                    f"{name}={value} is for an arignote.Model, and {type(model).__name__} loads "
                    f"its data itself: leave it at {default!r}"
                )
        self.model = model
        self.settings = settings
        self.n_epochs = model.n_epochs
        if hasattr(model, "compile_iter_fns"):
            model.compile_iter_fns()
        self.replica: ArrayReplica = ArrayReplica(
            model.params, allocate=route.allocate, owner=model
        )
        seed_worker(settings.run.seed, world.rank)
        self._world = world
        self.train_size = int(model.data.n_batch_train) * world.size

    @property
    def learning_rate(self) -> float:
        """Known only to the model."""
        return math.nan

    def _reset(self, mode: str) -> None:
        if hasattr(self.model, "reset_iter"):
            self.model.reset_iter(mode)

    def start_epoch(self, epoch: int, consumed: int) -> int:
        """Tell the model; it counts its batches from the start of the epoch."""
        self.model.epoch = epoch
        self.model.adjust_hyperp(epoch)
        self._reset("train")
        return int(self.model.data.n_batch_train) - consumed // self._world.size

    def train(self, epoch: int, consumed: int, part: int, recorder: Recorder) -> Bring:
        """One `train_iter`, of which what the model did not book itself is calc.

        Whatever the part: the model shares out its data itself.
        """
        self.model.train_iter(consumed // self._world.size, recorder)
        return Bring(samples=float(getattr(self.model, "samples", 1)))

    def after(self, consumed: int, steps: int) -> int:
        """In steps of all workers."""
        return consumed + steps * self._world.size

    def validate(self, recorder: Recorder, stopping: Callable[[], bool], *, alone: bool) -> None:
        """All of this worker's `val_iter`s; one may return 'stop' to end early."""
        self._reset("val")
        for count in range(int(self.model.data.n_batch_val)):
            if stopping() or self.model.val_iter(count, recorder) == "stop":
                return

    def data_card(self) -> dict[str, Any]:
        """The model keeps its data to itself."""
        return {}

    def saved(self, checkpoint: Path) -> None:
        """Let the model save what it likes beside its params, where its contract has `save`."""
        if hasattr(self.model, "save"):
            self.model.save(str(checkpoint))

    def close(self) -> None:
        """The model's own clean-up."""
        self.model.cleanup()


def model_config(settings: Settings, world: World) -> dict[str, Any]:
    """The one dict that a Theano-MPI model is constructed with."""
    return {
        "rank": world.rank,
        "size": world.size,
        "verbose": world.rank == 0,
        "seed": settings.run.seed,
        "batch_size": settings.train.batch_size,
        "n_epochs": settings.train.epochs,
        "data": settings.run.data,
        "rule": settings.run.rule,
    }
