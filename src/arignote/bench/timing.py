"""Timing things in turns: each round runs every one of them, so what disturbs hits all alike.

Before each call all workers meet, as in a real step, where an exchange follows the roll call.
A call lasts from there to its return on the slowest worker. What takes a few milliseconds or
less is called some times more just before, untimed: otherwise its time would depend on who
came before it and what that left in the caches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import torch

from arignote.bench.rows import Row, median_and_spread
from arignote.comm.base import World

_WHAT = "a round of the bench"
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 100
_SHORT_SECONDS = 0.005
_UNTIMED_CALLS = 3
_WAKE = 1
_SLEEP_SECONDS = 0.01

T = TypeVar("T")


@dataclass
class Entrant:
    """Something that is timed: all workers call it at once."""

    name: str
    call: Callable[[], int]
    """Returns the bytes that this worker sent."""
    refresh: Callable[[], object] | None = None
    """Before each call, outside the time."""
    chosen: str | None = None
    alone: bool = False
    """Only rank 0 calls it, while the others sleep."""
    short: bool = False
    """Worth untimed calls just before the timed one."""
    seconds: list[float] = field(default_factory=list)
    wire_bytes: int = 0


def line_up(world: World) -> None:
    """All workers go on within microseconds of each other."""
    world.meet([], _WHAT)
    # Who waited long for the first has gone to sleep, and wakes late; this one is short.
    world.meet([], _WHAT)


def race(entrants: Sequence[Entrant], world: World, seconds: float) -> None:
    """Rounds for about `seconds`, at least 5 and at most 100, after one that does not count."""
    _round(entrants, world)
    # What is decided here must be the same on all workers: it keeps them together.
    first = world.meet([entrant.seconds.pop() for entrant in entrants], _WHAT) / world.size
    for entrant, mean in zip(entrants, first, strict=True):
        entrant.short = bool(mean < _SHORT_SECONDS)
    begun = time.perf_counter()
    _round(entrants, world)
    (lasted,) = world.meet([time.perf_counter() - begun], _WHAT) / world.size
    rounds = min(max(int(seconds / lasted), _LEAST_ROUNDS), _MOST_ROUNDS)
    for _ in range(rounds - 1):
        _round(entrants, world)


def _round(entrants: Sequence[Entrant], world: World) -> None:
    for entrant in entrants:
        for _ in range(1 + (_UNTIMED_CALLS if entrant.short else 0)):
            if entrant.refresh is not None:
                entrant.refresh()
            lasted = first_only(world, 1 if entrant.alone else world.size, partial(_time, entrant))
        # Who sleeps takes no time, so that the slowest is who calls.
        entrant.seconds.append(lasted or 0.0)


def _time(entrant: Entrant) -> float:
    start = time.perf_counter()
    entrant.wire_bytes = entrant.call()
    return time.perf_counter() - start


def first_only(world: World, count: int, call: Callable[[], T]) -> T | None:
    """What `call` returns to the first `count` workers; the others sleep till rank 0 is through."""
    line_up(world)
    if world.rank >= count:
        sleep(world)
        return None
    result = call()
    if count < world.size:
        wake(world, count)
    return result


def wake(world: World, count: int = 1) -> None:
    """Rank 0 wakes all but the first `count` workers."""
    if world.rank == 0:
        wire = torch.zeros(1, dtype=torch.uint8)
        world.wait([world.send(wire, rank, _WAKE) for rank in range(count, world.size)], _WHAT)


def sleep(world: World) -> None:
    """Until rank 0 calls `wake`, hardly using the core (a meeting would keep asking)."""
    request = world.receive(torch.zeros(1, dtype=torch.uint8), 0, _WAKE)
    deadline = time.monotonic() + world.timeout_seconds
    while not request.done() and time.monotonic() < deadline:
        time.sleep(_SLEEP_SECONDS)
    world.wait([request], _WHAT)


def slowest(seconds: Sequence[float], world: World) -> list[float]:
    """Of every worker's times, round by round, the longest; the same on all workers."""
    everybodys = world.gather(list(seconds), _WHAT)
    return [max(times) for times in zip(*everybodys, strict=True)]


def rows(entrants: Sequence[Entrant], world: World, elements: int) -> list[Row]:
    """What came out, the same on all workers."""
    found = []
    for entrant in entrants:
        median, spread = median_and_spread(slowest(entrant.seconds, world))
        sent = max(world.gather(entrant.wire_bytes, _WHAT))
        workers = 1 if entrant.alone else world.size
        found.append(
            Row(entrant.name, elements, workers, median, spread, sent, chosen=entrant.chosen)
        )
    return found
