"""The optimizers of torch.optim that the settings can name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from arignote.config.settings import Optimizer

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def parameter_groups(
    module: nn.Module, params: Iterable[nn.Parameter], settings: Optimizer
) -> list[dict[str, Any]]:
    """`params` in groups that share weight decay and learning rate; the first is of weights.

    Without decay_all, biases and all parameters of normalisation layers are not decayed. Biases
    (beta of a normalisation among them) learn at bias_rate_factor times the rate.
    """
    biases: set[int] = set()
    plain: set[int] = set()
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            # LSTM has bias_ih_l0, attention in_proj_bias.
            if "bias" in name:
                biases.add(id(parameter))
            elif isinstance(layer, _NORMS):
                plain.add(id(parameter))
    factor, decay = settings.bias_rate_factor, settings.weight_decay
    kept = set() if settings.decay_all or not decay else plain | biases
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in params:
        rate = factor if id(parameter) in biases else 1.0
        groups.setdefault((rate, 0.0 if id(parameter) in kept else decay), []).append(parameter)
    # Weights come first: the rate that is shown is theirs.
    order = sorted(groups, key=lambda group: (group[0] != 1.0, -group[1]))
    return [
        {"params": groups[key], "weight_decay": key[1], "lr": settings.learning_rate * key[0]}
        for key in order
    ]


def build_optimizer(
    module: nn.Module, params: Iterable[nn.Parameter], settings: Optimizer
) -> torch.optim.Optimizer:
    """The optimizer that `[optimizer]` describes, over `params` of `module`."""
    groups = parameter_groups(module, params, settings)
    rate = settings.learning_rate
    if settings.name == "sgd":
        return torch.optim.SGD(
            groups,
            lr=rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            fused=settings.fused,
        )
    if settings.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, momentum=settings.momentum)
    betas = (settings.betas[0], settings.betas[1])
    if settings.name == "adam":
        return torch.optim.Adam(groups, lr=rate, betas=betas, fused=settings.fused)
    return torch.optim.AdamW(groups, lr=rate, betas=betas, fused=settings.fused)
