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

from arignote.bench.rows import Row, median_and_spread
from arignote.comm.base import World

_WHAT = "a round of the bench"
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 100
_SHORT_SECONDS = 0.005
_UNTIMED_CALLS = 3


@dataclass
class Entrant:
    """Something that is timed: all workers call it at once."""

    name: str
    call: Callable[[], int]
    """Returns the bytes that this worker sent."""
    refresh: Callable[[], object] | None = None
    """Before each call, outside the time."""
    chosen: str | None = None
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
            line_up(world)
            start = time.perf_counter()
            entrant.wire_bytes = entrant.call()
            lasted = time.perf_counter() - start
        entrant.seconds.append(lasted)


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
        found.append(
            Row(entrant.name, elements, world.size, median, spread, sent, chosen=entrant.chosen)
        )
    return found
