"""What the tests of diloco and streaming_diloco share: a small replica and what pulls it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from arignote.config.rule_options import parse_rule
from arignote.exchange.open import open_exchange
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Rule

RATE = 0.1


def make(
    text: str, world: Any, exchange: str = "shm", dtype: torch.dtype = torch.float64
) -> tuple[Rule, TorchReplica]:
    """A model of 7 x 6 + 7 parameters, which differs between workers until the start."""
    name, options = parse_rule(text)
    way = open_exchange(exchange, world)
    rule = RULES.load(name)(options, world, way, Recorder())
    module = nn.Linear(6, 7, dtype=dtype)
    with torch.no_grad():
        module.weight.copy_(torch.linspace(-1, 1, 42).view(7, 6)).add_(world.rank)
        module.bias.fill_(0.5)
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE)
    return rule, TorchReplica(module, optimizer, allocate=way.route.allocate)


def centre(rank: int, step: int) -> Any:
    """Where worker `rank` is pulled to at `step`."""
    return 1.0 + 0.5 * np.random.default_rng((rank, step)).standard_normal(49)
