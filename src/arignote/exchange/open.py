"""From `--exchange` to an exchange."""

from __future__ import annotations

from typing import Any

from arignote.comm.base import World
from arignote.config.exchange_options import AUTO, parse_exchange
from arignote.errors import UserError
from arignote.exchange.auto import AutoExchange
from arignote.exchange.exchange import Exchange
from arignote.registry import CODECS, ROUTES


def open_exchange(text: str, world: World) -> Exchange:
    """The exchange that `text` (`auto`, an alias or `route[:codec]`) names; collective.

    Raises:
        UserError: it is unknown, or cannot serve the workers of this world.
    """
    spec = parse_exchange(text)
    if spec.route == AUTO:
        return AutoExchange(world)
    route, codec = ROUTES.load(spec.route)(world), CODECS.load(spec.codec)(spec.options)
    kind: Any = getattr(codec, "exchange", Exchange)
    exchange: Exchange = kind(route, codec)
    return exchange


def open_kept_exchange(text: str, world: World) -> Exchange:
    """The exchange that `auto` chose before; where these workers cannot use it, auto again."""
    try:
        return open_exchange(text, world)
    except UserError:
        return AutoExchange(world)
