"""From `--exchange` to an exchange."""

from __future__ import annotations

from typing import Any

import torch

from arignote.comm.base import World
from arignote.config.exchange_options import AUTO, parse_exchange
from arignote.errors import UserError
from arignote.exchange.auto import AutoExchange
from arignote.exchange.exchange import Exchange
from arignote.registry import CODECS, ROUTES


def open_exchange(text: str, world: World, device: torch.device | None = None) -> Exchange:
    """The exchange that `text` (`auto`, an alias or `route[:codec]`) names; collective.

    Args:
        device: where the vectors live; None: the CPU.

    Raises:
        UserError: it is unknown, or cannot serve the workers of this world.
    """
    spec = parse_exchange(text)
    if spec.route == AUTO:
        return AutoExchange(world, device or torch.device("cpu"))
    route, codec = ROUTES.load(spec.route)(world), CODECS.load(spec.codec)(spec.options)
    kind: Any = getattr(codec, "exchange", Exchange)
    exchange: Exchange = kind(route, codec)
    return exchange


def open_kept_exchange(text: str, world: World, device: torch.device) -> Exchange:
    """The exchange that `auto` chose before; where these workers cannot use it, auto again.

    The reason is told with the new choice.
    """
    try:
        return open_exchange(text, world, device)
    except UserError as error:
        exchange = AutoExchange(world, device)
        exchange.refused[text] = str(error)
        return exchange
