"""What a task must know of `train.mix`: which losses take its targets; which class is right."""

from __future__ import annotations

import torch

from arignote.config.mix_options import parse_mix
from arignote.errors import UserError
from arignote.models.base import Model


def check_loss(model: Model, mix: str) -> None:
    """Check that the loss of `model` takes class probabilities, if `train.mix` makes them.

    Raises:
        UserError: it is a loss of its own, and does not say that it does.
    """
    own_loss = type(model).loss is not Model.loss
    if parse_mix(mix) and own_loss and not model.takes_probabilities:
        name = type(model).__name__
        raise UserError(
            f"train.mix={mix}: targets are class probabilities (N, classes) then, and {name} has a "
            f"loss of its own: if that takes them, set {name}.takes_probabilities = True, else use "
            "train.mix=none"
        )


def right_class(targets: torch.Tensor) -> torch.Tensor:
    """Of targets (N,) they themselves, of class probabilities (N, K) the largest: (N,) int64."""
    return targets.argmax(dim=-1) if targets.is_floating_point() else targets
