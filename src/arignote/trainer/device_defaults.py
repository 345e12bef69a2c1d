"""What settings leave to the device: what is faster there, and never by luck with a clock.

| setting | CPU | GPU |
|---|---|---|
| `train.precision = "auto"` | fp32 | bf16 from compute capability 8 on, else fp32 |
| `train.channels_last` unset | on for models with 2-D convolutions | the same |
| `optimizer.fused` unset | on, but for bsp on several workers | the same |

bf16 on a CPU without instructions for it is slower than fp32. A fused update is one pass over the
weights instead of several; it rounds the last elements of a tensor in another way, so it
is not for bsp on several workers, whose bits are the same whether they share the update out or not
(a worker's pieces stay in a core's cache anyway). `train.compile` stays off until it is asked for:
it needs a C compiler, and most of a minute before the first step.
"""

from __future__ import annotations

import torch
from torch import nn

from arignote import accelerator
from arignote.accelerator import DeviceClock
from arignote.config.rule_options import BSPOptions, parse_rule
from arignote.config.settings import Settings
from arignote.recorder.phases import Recorder

_FUSED = ("sgd", "adam", "adamw")


def with_device_defaults(settings: Settings, device: torch.device, workers: int) -> Settings:
    """`settings` with `train.precision` and `optimizer.fused` as they are on `device`."""
    train, optimizer = settings.train, settings.optimizer
    if train.precision == "auto":
        train = train.model_copy(update={"precision": _precision(device)})
    if optimizer.fused is None:
        options = parse_rule(settings.run.rule)[1]
        shared = workers > 1 and isinstance(options, BSPOptions)
        # fp16: a loss scaler hands its factor to a fused update, and ours is taken off before.
        fused = optimizer.name in _FUSED and not shared and train.precision != "fp16"
        optimizer = optimizer.model_copy(update={"fused": fused})
    return settings.model_copy(update={"train": train, "optimizer": optimizer})


def _precision(device: torch.device) -> str:
    if accelerator.is_one(device) and accelerator.computes_bf16(device):
        return "bf16"
    return "fp32"


def recorder_for(device: torch.device) -> Recorder:
    """A recorder whose phases are those of `device`."""
    return Recorder(DeviceClock(device) if accelerator.is_one(device) else None)


def wants_channels_last(settings: Settings, module: nn.Module) -> bool:
    """Whether images are given to `module` with channels innermost in memory."""
    if settings.train.channels_last is not None:
        return settings.train.channels_last
    return any(isinstance(layer, nn.Conv2d) for layer in module.modules())
