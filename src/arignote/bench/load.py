"""How full servers are, by the model and as measured.

A visit brings n bytes to the servers and takes n away. p workers that visit every tau steps of T
seconds, where all servers together take in and give out b bytes a second:

    load = p 2n / (tau T b)        full at p = tau T b / 2n
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

from arignote.bench.emulated import Emulation
from arignote.bench.entry import progress
from arignote.bench.rows import (
    LoadRow,
    ModelRow,
    measured_saturation,
    saturation,
    visit_bytes,
)
from arignote.bench.rule_request import CentreRequest
from arignote.bench.timing import first_only
from arignote.comm.base import World
from arignote.rules.visitor import Visitor

_WHAT = "a measurement of the bench"
_OVERLOAD = 2.0
"""With all workers, so that half of them fill the servers, and the curve is seen to become flat."""


def counts(workers: int) -> list[int]:
    """1, 2, 4, ... as far as there are so many workers, and all of them."""
    found = [1 << power for power in range(workers.bit_length())]
    return sorted({*found, workers})


def busy_part(readings: Sequence[tuple[float, float]]) -> float:
    """What part of its time a server was busy between the first and the last reading.

    Args:
        readings: (seconds that it was busy, seconds since it began); one: since it began.
    """
    (busy, since), (busy_first, first) = readings[-1], readings[0]
    return (busy - busy_first) / (since - first) if since > first else busy / since


def loads(
    request: CentreRequest, most: float, work: Emulation, world: World
) -> Iterator[LoadRow | ModelRow]:
    """1, 2, 4, ... workers beside the model; once more with shorter steps if that fills no server.

    Args:
        most: bytes a second that the servers take in and give out.
    """
    steps = [request.step_seconds]
    full = load_at(request, request.step_seconds, world.size, most)
    if full < _OVERLOAD:
        steps.append(request.step_seconds * full / _OVERLOAD)
    for step_seconds in steps:
        found = []
        for count in counts(world.size):
            progress(world, f"{count} every {request.period} steps of {1e3 * step_seconds:.3g} ms")
            found.append(_load(request, count, step_seconds, most, work, world))
        yield from found
        yield ModelRow(
            request.period,
            step_seconds,
            most,
            1 / load_at(request, step_seconds, 1, most),
            measured_saturation(found),
        )


def load_at(request: CentreRequest, step_seconds: float, workers: int, most: float) -> float:
    """By the model."""
    return saturation(
        workers,
        request.elements,
        period=request.period,
        step_seconds=step_seconds,
        bytes_per_second=most,
    )


def _load(
    request: CentreRequest,
    count: int,
    step_seconds: float,
    most: float,
    work: Emulation,
    world: World,
) -> LoadRow:
    train = partial(_train, request, step_seconds, work, world, count)
    told = [each for each in world.gather(first_only(world, count, train), _WHAT) if each]
    kept, visits, comm, busy = (list(column) for column in zip(*told, strict=True))
    return LoadRow(
        count,
        step_seconds,
        load_at(request, step_seconds, count, most),
        sum(visits) * visit_bytes(request.elements) / most,
        busy[0],
        sum(kept) / count,
        sum(comm) / count,
    )


def _train(
    request: CentreRequest,
    step_seconds: float,
    work: Emulation,
    world: World,
    count: int,
) -> list[float]:
    """Part of the time in steps, visits a second, comm seconds a step, how busy a server was."""
    assert isinstance(work.rule, Visitor)
    # As they would come to be by themselves: not all at the same step at the same time.
    time.sleep(request.period * step_seconds * world.rank / count)
    before, visited = work.phases(), work.recorder.exchanges
    steps, begun, lasted = 0, time.perf_counter(), 0.0
    readings: list[tuple[float, float]] = []
    # Whole periods: what is left of one would count without its visit.
    while lasted < request.seconds or steps % request.period:
        exchanges = work.recorder.exchanges
        work.step(step_seconds)
        steps += 1
        lasted = time.perf_counter() - begun
        if work.recorder.exchanges > exchanges:
            visit = work.rule.last_visit
            assert visit is not None
            readings.append((visit.busy_seconds, visit.server_seconds))
    visits = work.recorder.exchanges - visited
    spent = work.phases(before)
    return [spent["calc"] / lasted, visits / lasted, spent["comm"] / steps, busy_part(readings)]
