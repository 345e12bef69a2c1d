"""From `route[:codec]` to an exchange."""

from __future__ import annotations

from arignote.comm.base import World
from arignote.config.rule_options import parse_exchange
from arignote.exchange.base import Exchange
from arignote.registry import CODECS, ROUTES


def open_exchange(text: str, world: World) -> Exchange:
    """The exchange that `text` (`auto`, an alias or `route[:codec]`) names.

    Raises:
        UserError: the route or the codec is unknown.
    """
    route, codec = parse_exchange(text)
    return Exchange(ROUTES.load(route)(world), CODECS.load(codec)())
