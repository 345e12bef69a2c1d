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
from arignote.bench.rows import LoadRow, ModelRow, saturation, visit_bytes
from arignote.bench.rule_request import CentreRequest
from arignote.bench.timing import first_only
from arignote.comm.base import World

_WHAT = "a measurement of the bench"
_NOTE = "server_load"


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
) -> Iterator[ModelRow | LoadRow]:
    """The model, then 1, 2, 4, ... workers beside it.

    Args:
        most: bytes a second that the servers take in and give out.
        opened: when they began (`time.perf_counter`).
    """
    one = saturation(
        1,
        request.elements,
        period=request.period,
        step_seconds=request.step_seconds,
        bytes_per_second=most,
    )
    yield ModelRow(request.period, request.step_seconds, most, 1 / one)
    for count in counts(world.size):
        progress(world, f"{count} every {request.period} steps, about {request.seconds:g} s")
        told = first_only(world, count, partial(_train, request, work, world, count, opened))
        found = [each for each in world.gather(told, _WHAT) if each is not None]
        steps, visits, comm, busy = (list(column) for column in zip(*found, strict=True))
        yield LoadRow(
            count,
            count * one,
            sum(visits) * visit_bytes(request.elements) / most,
            busy[0],
            sum(steps) * request.step_seconds / count,
            sum(comm) / count,
        )


def _train(
    request: CentreRequest, work: Emulation, world: World, count: int, opened: float
) -> list[float]:
    """Steps and visits a second, comm seconds a step, and how busy a server was."""
    # As they would come to be by themselves: not all at the same step at the same time.
    time.sleep(request.period * request.step_seconds * world.rank / count)
    before, visited = work.phases(), work.recorder.exchanges
    steps, begun, lasted = 0, time.perf_counter(), 0.0
    readings: list[tuple[float, float]] = []
    while lasted < request.seconds:
        exchanges = work.recorder.exchanges
        work.step(request.step_seconds)
        steps += 1
        now = time.perf_counter()
        lasted = now - begun
        if work.recorder.exchanges > exchanges:
            readings.append((now - opened, work.recorder.notes[_NOTE].last))
    visits = work.recorder.exchanges - visited
    comm = work.phases(before)["comm"]
    return [steps / lasted, visits / lasted, comm / steps, busy_part(readings)]
