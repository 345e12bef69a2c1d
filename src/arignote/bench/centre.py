"""The workers and servers of `arignote bench centre`: what visiting a centre costs.

1. A visit beside a plain copy of the vector, by one worker alone and by all at once.
2. 1, 2, ... workers that visit without pause: what the centre can take in and give out.
3. With servers: 1, 2, 4, ... workers that step and visit every period, beside the model of when
   the servers are full (`bench.load`).
4. What that costs a step, beside bsp over MPI's own allreduce.

python -m arignote.bench.centre REQUEST
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

from arignote.bench.emulated import Emulation
from arignote.bench.entry import progress, serve
from arignote.bench.floors import copy
from arignote.bench.load import loads
from arignote.bench.rows import CommRow, Measured, StreamRow
from arignote.bench.rule_request import CentreRequest
from arignote.bench.timing import Entrant, first_only, line_up, race, rows
from arignote.comm.base import World
from arignote.comm.crew import Crew
from arignote.rules.base import Bring
from arignote.rules.visitor import Visitor
from arignote.rules.visitor import serve as serve_centre

_WHAT = "a measurement of the bench"
_EXCHANGE = "allreduce:fp32"
_PEER = "bsp:sharded=off,overlap=off"
_PEER_STEPS = 3
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 20


def main(request: CentreRequest) -> None:
    """Be one worker, or a server."""
    serve(request.settings, lambda settings, crew: measure(request, crew))


def measure(request: CentreRequest, crew: Crew) -> Iterator[Measured]:
    """All of it; of a server nothing comes."""
    if crew.is_server:
        serve_centre(crew)
        return
    world = crew.workers
    work = Emulation(request.rule, _EXCHANGE, crew, request.elements)
    # Some rules note in it what a visit needs.
    assert isinstance(work.rule, Visitor)
    work.rule.update(work.replica, Bring(samples=1))
    yield from (timed := _visits(request, work, world))
    alone = next(row for row in timed if row.name == "copy" and row.workers == 1)
    streams = []
    for count in range(1, world.size + 1):
        progress(world, f"{count} without pause, about {request.seconds:g} s")
        streams.append(_stream(request, count, work, world, 1 / alone.median_seconds))
        yield streams[-1]
    if crew.servers:
        most = max(stream.bytes_per_second for stream in streams)
        yield from loads(request, most, work, world)
    yield from _steps(request, work, crew)
    work.finish()


def _visits(request: CentreRequest, work: Emulation, world: World) -> Any:
    source, target = work.replica.parameters[0], work.replica.gradients[0]
    entrants = []
    for alone in (True, False):
        entrants.append(Entrant(request.rule.partition(":")[0], partial(_visit, work), alone=alone))
        plain = copy(source, target)
        plain.alone = alone
        entrants.append(plain)
    progress(world, f"visits and copies in turns, about {request.seconds:g} s")
    race(entrants, world, request.seconds)
    return rows(entrants, world, request.elements)


def _visit(work: Emulation) -> int:
    """The bytes that went over a wire, to the centre and back."""
    assert isinstance(work.rule, Visitor)
    before = work.recorder.wire_bytes
    work.rule.visit(0, work.replica.parameters[0], Bring(samples=1))
    return work.recorder.wire_bytes - before


def _stream(
    request: CentreRequest, count: int, work: Emulation, world: World, copies: float
) -> StreamRow:
    """The first `count` workers visit without pause."""

    def visits_per_second() -> float:
        visits, begun, lasted = 0, time.perf_counter(), 0.0
        while not visits or lasted < request.seconds:
            _visit(work)
            visits += 1
            lasted = time.perf_counter() - begun
        return visits / lasted

    own = first_only(world, count, visits_per_second)
    total = sum(world.gather(own or 0.0, _WHAT))
    return StreamRow(count, request.elements, total, copies)


def _steps(request: CentreRequest, work: Emulation, crew: Crew) -> Iterator[CommRow]:
    """Both in turns: a period of steps of one, then some of the other."""
    world = crew.workers
    peer = Emulation(_PEER, _EXCHANGE, crew, request.elements, work.replica)
    both = {request.rule: work, f"bsp, {_EXCHANGE}": peer}
    lasts = (request.period + _PEER_STEPS) * request.step_seconds
    rounds = min(max(int(request.seconds / lasts), _LEAST_ROUNDS), _MOST_ROUNDS)
    progress(world, f"{rounds} rounds of steps of both rules")
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in both}
    for number in range(rounds + 1):
        for name, one in both.items():
            line_up(world)
            before = one.phases()
            # The steps of bsp are all alike: some will do.
            steps = request.period if one is work else min(request.period, _PEER_STEPS)
            for _ in range(steps):
                one.step(request.step_seconds)
            phases = one.phases(before)
            # The first round does not count.
            if number:
                spent[name].append((phases["comm"] / steps, phases["sync"] / steps))
    for name, seconds in spent.items():
        told = world.gather([list(both) for both in zip(*seconds, strict=True)], _WHAT)
        comm, sync = (median_of_means([theirs[phase] for theirs in told]) for phase in (0, 1))
        yield CommRow(name, request.elements, world.size, comm, sync)
    peer.finish()


def median_of_means(seconds: Sequence[Sequence[float]]) -> float:
    """Of each round the mean over the workers, of those the median; shape (workers, rounds)."""
    means = [sum(theirs) / len(theirs) for theirs in zip(*seconds, strict=True)]
    return float(median(means))


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    main(CentreRequest(**given))
