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

_WHAT = "a measurement of the bench"
_NOTE = "server_load"
_OVERLOAD = 2.0
"""With all workers, so that half of them fill the servers, and the curve is seen to become flat."""


def counts(workers: int) -> list[int]:
    """1, 2, 4, ... as far as there are so many workers, and all of them."""
    found = [1 << power for power in range(workers.bit_length())]
    return sorted({*found, workers})


def busy_part(readings: Sequence[tuple[float, float]]) -> float:
    """What part of its time a server was busy between the first and the last reading.

    Args:
        readings: (seconds since it began, part of them that it was busy).
    """
    (first, at_first), (last, at_last) = readings[0], readings[-1]
    if last <= first:
        return at_last
    return (last * at_last - first * at_first) / (last - first)


def loads(
    request: CentreRequest, most: float, work: Emulation, world: World, opened: float
) -> Iterator[LoadRow | ModelRow]:
    """1, 2, 4, ... workers beside the model; once more with shorter steps if that fills no server.

    Args:
        most: bytes a second that the servers take in and give out.
        opened: when they began (`time.perf_counter`).
    """
    steps = [request.step_seconds]
    full = load_at(request, request.step_seconds, world.size, most)
    if full < _OVERLOAD:
        steps.append(request.step_seconds * full / _OVERLOAD)
    for step_seconds in steps:
        found = []
        for count in counts(world.size):
            progress(world, f"{count} every {request.period} steps of {1e3 * step_seconds:.3g} ms")
            found.append(_load(request, count, step_seconds, most, work, world, opened))
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
    opened: float,
) -> LoadRow:
    train = partial(_train, request, step_seconds, work, world, count, opened)
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
    opened: float,
) -> list[float]:
    """Part of the time in steps, visits a second, comm seconds a step, how busy a server was."""
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
        now = time.perf_counter()
        lasted = now - begun
        if work.recorder.exchanges > exchanges:
            readings.append((now - opened, work.recorder.notes[_NOTE].last))
    visits = work.recorder.exchanges - visited
    spent = work.phases(before)
    return [spent["calc"] / lasted, visits / lasted, spent["comm"] / steps, busy_part(readings)]
