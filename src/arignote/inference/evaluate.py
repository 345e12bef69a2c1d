"""`arignote evaluate`: a run's checkpoint on the whole validation set, as training validates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from arignote.checkpoint.store import refuse_other_tensors
from arignote.comm.serial import SerialWorld
from arignote.config.settings import Settings
from arignote.data.card import DataCard
from arignote.errors import UserError
from arignote.exchange.open import open_exchange
from arignote.inference.load import device_here, model_class, read_checkpoint
from arignote.inference.request import Request
from arignote.recorder.phases import Recorder
from arignote.trainer.journal import validation_means
from arignote.trainer.torch_task import TorchTask


def evaluate(request: Request) -> dict[str, Any]:
    """Loss, accuracy, error and error_top5 over the validation set.

    The task that trains also validates here, so the numbers are training's own, but for the
    order in which the parts of several workers are summed.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not fit the model.
        DataError: the data cannot be opened.
        UserError: the model is none of PyTorch, or the data does not fit the run's.
    """
    saved = read_checkpoint(Path(request.run), request.checkpoint)
    settings = _alone(saved.settings, request.options.get("data"))
    world = SerialWorld()
    route = open_exchange("allreduce:fp32", world).route
    model = model_class(settings)()
    task = TorchTask(model, settings, world, route, device_here(settings))
    card = DataCard.of(task.dataset)
    if saved.card is not None:
        _refuse_other_data(settings.run.data or "the model's own data", card, saved.card)
        if card.mean != saved.card.mean or card.deviation != saved.card.deviation:
            # Other data is normalised as the run's was.
            task.dataset.mean, task.dataset.deviation = saved.card.mean, saved.card.deviation
    ours = task.replica.named_tensors()
    refuse_other_tensors(saved.name, settings.run.model, saved.weights, ours)
    task.replica.load_named_tensors(saved.weights)
    recorder = Recorder()
    task.validate(recorder, lambda: False, alone=True)
    sums = recorder.take_validation_sums()
    metrics = validation_means(sums)
    return {
        **saved.facts(),
        "data": settings.run.data,
        "samples": round(sums["samples"]),
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        # Of a language model the loss is a mean over tokens.
        "loss_per_token": card.is_language,
    }


def _alone(settings: Settings, data: str | None) -> Settings:
    """The run's settings for one process that trains nothing."""
    train = settings.train.model_copy(update={"compile": False, "balance": False})
    run = settings.run.model_copy(update={} if data is None else {"data": data})
    return settings.model_copy(update={"run": run, "train": train})


def _refuse_other_data(name: str, ours: DataCard, trained: DataCard) -> None:
    """Raise a UserError where data does not mean what the model has learned."""
    if ours.sample_shape != trained.sample_shape:
        raise UserError(
            f"{name} has samples of shape {ours.sample_shape}, the run was trained on "
            f"{trained.sample_shape}: give data of that shape"
        )
    if ours.classes != trained.classes:
        raise UserError(
            f"{name} has {_some(ours.classes)}, the run was trained on {_some(trained.classes)}: "
            "give data of the same classes in the same order"
        )
    if ours.vocabulary != trained.vocabulary:
        raise UserError(
            f"{name} has a vocabulary of {len(ours.vocabulary)} words, the run was trained on "
            f"another of {len(trained.vocabulary)}: give the run's own data"
        )


def _some(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    return f"{len(classes)} class{'' if len(classes) == 1 else 'es'} ({shown})"
