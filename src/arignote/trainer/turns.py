"""Who makes which part of a step: all workers their own, or each the next that nobody has taken.

A step is a global batch cut into one part a worker. Workers in step take their own part of each.
Workers of an asynchronous rule take the parts in order, whoever is free: the run goes through
the same samples, at the same learning rates, and a slow worker makes fewer of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from arignote.comm.base import World
from arignote.comm.counter import Counter, open_counter
from arignote.recorder.phases import Recorder
from arignote.rules.base import Rule

Make: TypeAlias = Callable[[int, int], bool]
"""(step, counted from 0; part) -> whether a worker is known to have been told to stop."""


class Turns(ABC):
    """How the parts of some steps are shared out."""

    @abstractmethod
    def run(self, steps: int, make: Make) -> tuple[int, bool]:
        """Make `steps` steps together, fewer if a worker is told to stop; collective.

        Returns:
            How many were made, the same on all workers, and whether one was told to stop.
        """

    def foreseen(self) -> tuple[int, int] | None:
        """While a part is made: (step, part) of this worker's next, if it was taken already."""
        return None

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """The last steps have been made; collective."""


class InStep(Turns):
    """Every worker makes its part of every step."""

    def __init__(self, world: World) -> None:
        self._world = world

    def run(self, steps: int, make: Make) -> tuple[int, bool]:
        """See `Turns.run`."""
        for step in range(steps):
            if make(step, self._world.rank):
                return step + 1, True
        return steps, False


class Taken(Turns):
    """Every worker takes the next part, again and again."""

    def __init__(self, world: World, recorder: Recorder, *, foresees: bool = False) -> None:
        self._world = world
        self._recorder = recorder
        self._counter: Counter = open_counter(world, foresees=foresees)
        self._first = 0
        """The number at which the steps of this `run` begin."""
        self._strides: deque[int] = deque(maxlen=2)
        """How many numbers all have taken while this worker made one, of its last two parts."""

    def run(self, steps: int, make: Make) -> tuple[int, bool]:
        """See `Turns.run`."""
        parts = self._world.size
        limit = self._first + steps * parts
        before = None
        while (number := self._take(limit, before)) is not None:
            before = number
            if make(*divmod(number - self._first, parts)):
                self._counter.stop(parts)
        # All parts that were taken are made when all workers are here.
        self._world.meet([], "the end of the steps that all make together")
        # Who goes on takes the next, so worker 0 reads before anybody may, and tells the others.
        state = self._counter.read() if self._world.rank == 0 else (0, False)
        reached, stopped = self._world.meet(state, "the end of the steps that all make together")
        self._recorder.end("sync")
        made = (int(reached) - self._first) // parts
        self._first = int(reached)
        return made, bool(stopped)

    def _take(self, limit: int, before: int | None) -> int | None:
        """The next number, after `before`; the one after it is asked for ahead."""
        self._recorder.start()
        number = self._counter.take(limit)
        if number is not None:
            if before is not None:
                self._strides.append(number - before)
            if self._strides:
                self._counter.ask_ahead(limit, max(self._world.size, *self._strides))
        self._recorder.end("wait")
        return number

    def foreseen(self) -> tuple[int, int] | None:
        """See `Turns.foreseen`."""
        ahead = self._counter.ahead
        return None if ahead is None else divmod(ahead - self._first, self._world.size)

    def close(self) -> None:
        """See `Turns.close`."""
        self._counter.close()


def open_turns(rule: Rule, world: World, recorder: Recorder, *, foresees: bool = False) -> Turns:
    """What the rule asks for; collective.

    Args:
        foresees: the next part is taken early, because loaders make its batch meanwhile.
    """
    if rule.options.asynchronous:
        return Taken(world, recorder, foresees=foresees)
    return InStep(world)
