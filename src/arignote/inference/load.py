"""From the folder of a run to its model: one checkpoint's weights, without the training data."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from arignote import accelerator
from arignote.checkpoint.pack import load_plain_items, load_state
from arignote.checkpoint.store import COMMON, WEIGHTS, CheckpointStore, damage, refuse_other_tensors
from arignote.comm.serial import SerialWorld
from arignote.config.devices import ACCELERATOR, CPU, is_accelerator
from arignote.config.load import resolve
from arignote.config.model_source import find_model
from arignote.config.settings import Settings
from arignote.data.card import AbsentData, DataCard
from arignote.errors import CheckpointError, UserError, unknown
from arignote.frameworks.seeds import seed_build
from arignote.inference.request import BEST, LAST
from arignote.models.base import Model
from arignote.trainer.device_defaults import with_device_defaults

_LOOKS = 3
"""A run that goes on deletes old checkpoints while we read: then we look for the newest again."""


@dataclass(frozen=True)
class Saved:
    """What was read from a checkpoint."""

    name: str
    step: int
    settings: Settings
    weights: dict[str, torch.Tensor]
    card: DataCard | None
    """None: an older Arignote saved it."""
    remarks: list[str] = field(default_factory=list)
    """What the user should know: newer checkpoints that are damaged."""

    def facts(self) -> dict[str, Any]:
        """What every result says about where it came from."""
        return {
            "model": self.settings.run.model,
            "checkpoint": self.name,
            "step": self.step,
            "remarks": self.remarks,
        }


def read_checkpoint(run_folder: Path, which: str) -> Saved:
    """The checkpoint `which` (last, best, or its name) of a run; `last` is the newest sound one.

    Raises:
        CheckpointError: there is none, or it is damaged.
        UserError: no checkpoint is called so.
    """
    store = CheckpointStore(run_folder, SerialWorld(), keep_last=1)
    for _ in range(_LOOKS):
        problems: list[str] = []
        for name in _candidates(store, which):
            path = store.folder / name
            problem = damage(path, (WEIGHTS, COMMON))
            if problem is None:
                try:
                    return _read(path, problems)
                except FileNotFoundError:
                    continue
            if path.is_dir():
                problems.append(problem)
        if problems:
            raise CheckpointError(f"{run_folder}: {'; '.join(problems)}")
    raise CheckpointError(f"{run_folder}: its checkpoints are deleted as fast as they are read")


def _candidates(store: CheckpointStore, which: str) -> list[str]:
    names = store.names()
    if not names:
        raise CheckpointError(
            f"{store.folder.parent} has no checkpoint: none was saved yet, or they were deleted"
        )
    if which == LAST:
        return names[::-1]
    if which == BEST:
        best = store.best()[0]
        if best not in names:
            raise CheckpointError(
                f"{store.folder.parent} kept no best checkpoint (checkpoint.keep_best, "
                "train.validate_every_epochs): use --checkpoint last"
            )
        return [best]
    if which not in names:
        raise UserError(unknown("checkpoint", which, [LAST, BEST, *names]))
    return [which]


def _read(path: Path, problems: list[str]) -> Saved:
    common = load_plain_items(path / COMMON, ("position", "settings", "data"))
    return Saved(
        name=path.name,
        step=int(common["position"]["steps"]),
        settings=resolve([("", common["settings"])]),
        weights=load_state(path / WEIGHTS),
        card=DataCard.load(common["data"]) if common.get("data") else None,
        remarks=[f"{problem}; using an older one" for problem in problems],
    )


def model_class(settings: Settings) -> type[Model]:
    """The class of the run's model.

    Raises:
        UserError: it is no PyTorch `Model`.
    """
    found = find_model(settings.run.model).load()
    if not (isinstance(found, type) and issubclass(found, Model)):
        raise UserError(
            f"{settings.run.model} is a model of Theano-MPI's contract, which only it knows how to "
            "use: evaluate, infer and export take subclasses of arignote.Model"
        )
    return found


def device_here(settings: Settings) -> torch.device:
    """A GPU if the run had some and there is one here, else the CPU."""
    wants_gpu = any(is_accelerator(name) for name in settings.launch.devices)
    return torch.device(ACCELERATOR if wants_gpu and accelerator.available() else CPU)


@dataclass(frozen=True)
class Trained:
    """A model with its weights, ready for use."""

    saved: Saved
    card: DataCard
    model: Model
    device: torch.device

    @property
    def module(self) -> nn.Module:
        """In evaluation mode."""
        return self.model.module

    @property
    def input_dtype(self) -> torch.dtype:
        """Of what the module takes: float64 where the run was in it."""
        dtype = self.card.torch_dtype
        in_float64 = self.saved.settings.train.precision == "fp64" and dtype.is_floating_point
        return torch.float64 if in_float64 else dtype

    @torch.no_grad()
    def outputs(self, inputs: torch.Tensor) -> Any:
        """The module's outputs for `inputs` (N, *sample_shape), in the precision of training."""
        with self.autocast():
            return self.module(inputs.to(self.device, self.input_dtype))

    def autocast(self) -> AbstractContextManager[object]:
        """As training and validation cast."""
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = kinds.get(self.saved.settings.train.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype)


def load_trained(run_folder: Path, which: str, device: torch.device | None = None) -> Trained:
    """Build the model of a run and load a checkpoint into it.

    Args:
        device: where it is to run; None: `device_here`.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not fit the model.
        UserError: the model is none of PyTorch, or cannot be built without its data.
    """
    saved = read_checkpoint(run_folder, which)
    device = device or device_here(saved.settings)
    settings, card = with_device_defaults(saved.settings, device, 1), saved.card
    kind = model_class(settings)
    if card is None:
        raise CheckpointError(
            f"{run_folder} was saved by an older Arignote, without class names, mean and "
            f"deviation: train it further (arignote train --resume {run_folder} --epochs N)"
        )
    seed_build(settings.run.seed)
    model = kind()
    model.settings = settings
    model.dataset = AbsentData(card)
    module = _build(model)
    model.module = module.double() if settings.train.precision == "fp64" else module
    refuse_other_tensors(saved.name, settings.run.model, saved.weights, module.state_dict())
    module.load_state_dict(saved.weights)
    module.to(device).eval()
    return Trained(replace(saved, settings=settings), card, model, device)


def _build(model: Model) -> nn.Module:
    try:
        return model.build()
    except AttributeError as error:
        if error.obj is not model.dataset:
            raise
        raise UserError(
            f"{type(model).__name__}.build() asks its data set for {error.name!r}, and without the "
            "data only classes, vocabulary, sample_shape, mean and deviation are known"
        ) from None
