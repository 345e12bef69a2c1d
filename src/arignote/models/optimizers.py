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
    """`params` in groups with and without weight decay.

    Without decay_all, biases and all parameters of normalisation layers are not decayed.
    """
    wanted = list(params)
    if settings.decay_all or not settings.weight_decay:
        return [{"params": wanted, "weight_decay": settings.weight_decay}]
    plain: set[int] = set()
    for layer in module.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            # LSTM has bias_ih_l0, attention in_proj_bias.
            if isinstance(layer, _NORMS) or "bias" in name:
                plain.add(id(parameter))
    decayed = [p for p in wanted if id(p) not in plain]
    kept = [p for p in wanted if id(p) in plain]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


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
