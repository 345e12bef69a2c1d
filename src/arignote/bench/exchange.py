"""The workers of `arignote bench exchange`: every way to average a vector, in one run.

python -m arignote.bench.exchange REQUEST
"""

from __future__ import annotations

import gc
import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import torch

from arignote.bench.entry import progress, serve
from arignote.bench.floors import Line, copy
from arignote.bench.peers import PEERS, join_gloo, leave_gloo
from arignote.bench.request import ExchangeRequest, default_exchanges
from arignote.bench.rows import Row
from arignote.bench.timing import Entrant, race, rows
from arignote.comm.base import World
from arignote.comm.crew import Crew
from arignote.config.exchange_options import AUTO
from arignote.config.settings import Settings
from arignote.exchange.base import Route
from arignote.exchange.exchange import Exchange
from arignote.exchange.open import open_exchange

_WHAT = "a round of the bench"
_SIDE = 4096


def main(request: ExchangeRequest) -> None:
    """Be one worker."""

    def bench(settings: Settings, crew: Crew) -> Iterator[Row]:
        return measure(request, crew.workers)

    serve(request.settings, bench)


def measure(request: ExchangeRequest, world: World) -> Iterator[Row]:
    """All sizes, one after the other."""
    hosts = [peer.host for peer in world.peers]
    line = Line(world) if len(set(hosts)) > 1 else None
    store = join_gloo(world) if "gloo" in request.peers else None
    for elements in request.elements:
        progress(world, f"{elements:,} elements, about {request.seconds:g} s")
        torch.manual_seed(world.rank)
        field = _Field(elements, world)
        entrants = [field.exchange(text) for text in request.exchanges or default_exchanges(hosts)]
        entrants += [PEERS[name](field.plain, world) for name in request.peers]
        entrants.append(line.entrant(field.source) if line else copy(field.source, field.plain))
        race(entrants, world, request.seconds)
        yield from rows(entrants, world, elements)
        field.close()
        del field, entrants
        gc.collect()
    if store is not None:
        leave_gloo(world)
    if line:
        line.close()


class _Field:
    """The vectors of one size: whoever can, shares one."""

    def __init__(self, elements: int, world: World) -> None:
        self.source = torch.randn(elements)
        self.plain = self.source.clone()
        self._world = world
        self._exchanges: list[Exchange] = []

    def exchange(self, text: str) -> Entrant:
        """One of ours, in the memory that its route wants."""
        way = open_exchange(text, self._world)
        self._exchanges.append(way)
        vector = self.plain
        if type(way.route).allocate is not Route.allocate:
            vector = way.route.allocate(len(self.source), torch.float32, torch.device("cpu"))
        vector.copy_(self.source)
        way.prepare([vector], [layer_shapes(len(self.source))])
        return Entrant(
            AUTO if text == AUTO else way.name,
            lambda: way.mean_(vector, what=_WHAT),
            # How long a codec takes may depend on the numbers: each time the same.
            refresh=None if way.codec.lossless else lambda: vector.copy_(self.source),
            chosen=way.name if text == AUTO else None,
        )

    def close(self) -> None:
        """Let go of what the routes hold."""
        for way in self._exchanges:
            way.route.close()


def layer_shapes(elements: int) -> list[torch.Size]:
    """A vector as layers: matrices of 4096 x 4096, a nearly square one of the rest, and a bias."""
    shapes = [torch.Size((_SIDE, _SIDE))] * (elements // _SIDE**2)
    rest = elements % _SIDE**2
    height = math.isqrt(rest)
    if height:
        shapes.append(torch.Size((height, rest // height)))
    bias = rest - height * (rest // height) if height else 0
    if bias:
        shapes.append(torch.Size((bias,)))
    return shapes


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    main(ExchangeRequest(**given))
