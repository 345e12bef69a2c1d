"""Entrants of `bench loader` in turns: each round runs all, so what disturbs hits all alike.

A turn begins with nothing ordered and ends with the last batch taken, so no entrant lives on what
it made before its turn, and none works during another's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from arignote.bench.loader_entrants import Draw, Entrant, OneCore, OurLoaders, TorchLoaders
from arignote.bench.loader_plan import Plan
from arignote.bench.loader_rows import LoaderRow
from arignote.bench.rows import median_and_spread


def race(plan: Plan, say: Callable[[str], None]) -> Iterator[LoaderRow]:
    """Time all entrants."""
    with ExitStack() as stack:
        entrants = []
        for entrant in _entrants(plan):
            stack.callback(entrant.close)
            entrants.append(entrant)
        # Whole rounds of every number of workers: a DataLoader's each make whole batches.
        step = math.lcm(*plan.request.loaders)
        draws = [Draw(plan.images, plan.request.batch_size) for _ in entrants]
        counts = []
        for entrant, draw in zip(entrants, draws, strict=True):
            entrant.turn(draw.batches(step))
            seconds = entrant.turn(draw.batches(step))
            counts.append(step * max(1, round(plan.turn_seconds / seconds)))
            say(f"{_called(entrant)}: turns of {counts[-1]} batches")
        found: list[list[float]] = [[] for _ in entrants]
        for _ in range(plan.rounds):
            for entrant, draw, count, times in zip(entrants, draws, counts, found, strict=True):
                times.append(entrant.turn(draw.batches(count)) / count)
    for entrant, times in zip(entrants, found, strict=True):
        yield _row(entrant, plan.request.batch_size, times)


def _entrants(plan: Plan) -> Iterator[Entrant]:
    """Each is begun when it is asked for."""
    request = plan.request
    yield OneCore("shards uint8", plan.shards, request.batch_size)
    yield OneCore("imagefolder uint8", plan.imagefolder, request.batch_size)
    for loaders in request.loaders:
        for name, source in (("shards float32", plan.shards), ("imagefolder", plan.imagefolder)):
            yield OurLoaders(name, source, loaders=loaders, batch_size=request.batch_size)
        if "torch" in request.peers:
            yield TorchLoaders(plan.folder, request.size, plan.known, loaders=loaders)


def _called(entrant: Entrant) -> str:
    return f"{entrant.name}, {entrant.loaders} loader{'' if entrant.loaders == 1 else 's'}"


def _row(entrant: Entrant, batch_size: int, seconds: Sequence[float]) -> LoaderRow:
    median, spread = median_and_spread(seconds)
    return LoaderRow(entrant.name, entrant.loaders, batch_size, median, spread)
