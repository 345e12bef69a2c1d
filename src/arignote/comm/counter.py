"""One counter for all workers: who asks gets the next number, and nobody gets it twice.

Asynchronous rules hand out batches by it: number t is part t mod n of step t // n, in the very
cut that n workers in step would use. So a slow worker takes fewer, every sample is taken once,
and the learning rate is a function of t alone.

On one host the counter lies in shared memory. Elsewhere worker 0 keeps it, and a thread of its
answers (`comm.service`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch

from arignote.comm.base import World
from arignote.comm.questions import Question, ask, say_goodbye
from arignote.comm.service import Service
from arignote.comm.shared_memory import SharedRows
from arignote.errors import UserError

_WHAT = "the counter of the batches"
_NEXT, _STOP_AT = 0, 1
_NEVER = 2**62
_TAKE, _AHEAD, _STOP, _READ = range(4)
_NONE, _LATER = -1, -2


class Counter(ABC):
    """Numbers 0, 1, 2 ... for all workers of a world."""

    ahead: int | None = None
    """What the next `take` will give, if that is known by now."""

    @abstractmethod
    def take(self, limit: int, first: int = 0) -> int | None:
        """The next number from `first` on, if it is below `limit` and no `stop` forbids it."""

    @abstractmethod
    def ask_ahead(self, limit: int, spare: int) -> None:
        """Begin the `take(limit)` that comes next, if that is worth it.

        The last `spare` numbers are not given ahead of their time: see `RemoteCounter`.
        """

    @abstractmethod
    def stop(self, multiple: int) -> None:
        """Give out no number at or above the next multiple of `multiple`: a step is made whole."""

    @abstractmethod
    def read(self) -> tuple[int, bool]:
        """(the next number, whether somebody called `stop`)."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Nobody asks any more; collective."""


class Cells(Counter):
    """A counter in two cells of memory.

    Args:
        cells: [next number, where to stop], shape (2,), int64.
        foresees: `ask_ahead` takes the next number, so that its batch can be loaded meanwhile.
    """

    def __init__(self, cells: torch.Tensor, *, foresees: bool = False) -> None:
        self._cells = cells.numpy()
        self._cells[_STOP_AT] = _NEVER
        self._foresees = foresees

    def ask_ahead(self, limit: int, spare: int) -> None:
        """See `Counter.ask_ahead`."""
        if self._foresees and self.left(limit) > spare:
            self.ahead = self.take(limit)

    def take(self, limit: int, first: int = 0) -> int | None:
        """See `Counter.take`."""
        if self.ahead is not None:
            ahead, self.ahead = self.ahead, None
            return ahead
        number = max(int(self._cells[_NEXT]), first)
        if number >= min(limit, int(self._cells[_STOP_AT])):
            return None
        self._cells[_NEXT] = number + 1
        return number

    def left(self, limit: int) -> int:
        """How many numbers below `limit` nobody has taken and no `stop` forbids."""
        end = min(limit, int(self._cells[_STOP_AT]))
        return max(0, end - int(self._cells[_NEXT]))

    def stop(self, multiple: int) -> None:
        """See `Counter.stop`."""
        whole = -(-int(self._cells[_NEXT]) // multiple) * multiple
        self._cells[_STOP_AT] = min(int(self._cells[_STOP_AT]), whole)

    def read(self) -> tuple[int, bool]:
        """See `Counter.read`."""
        return int(self._cells[_NEXT]), bool(self._cells[_STOP_AT] < _NEVER)


class SharedCounter(Counter):
    """Cells in memory that the workers of one host share, under a lock; collective."""

    def __init__(self, world: World, *, foresees: bool = False) -> None:
        self._shared = SharedRows(world, 2, torch.int64, rows=1, locks=1)
        self._cells = Cells(self._shared.row(0), foresees=foresees)
        world.meet([], _WHAT)

    @property
    def ahead(self) -> int | None:  # type: ignore[override]
        """See `Counter.ahead`."""
        return self._cells.ahead

    def ask_ahead(self, limit: int, spare: int) -> None:
        """See `Counter.ask_ahead`."""
        with self._shared.locks.held(0, _WHAT):
            self._cells.ask_ahead(limit, spare)

    def take(self, limit: int, first: int = 0) -> int | None:
        """See `Counter.take`."""
        with self._shared.locks.held(0, _WHAT):
            return self._cells.take(limit, first)

    def stop(self, multiple: int) -> None:
        """See `Counter.stop`."""
        with self._shared.locks.held(0, _WHAT):
            self._cells.stop(multiple)

    def read(self) -> tuple[int, bool]:
        """See `Counter.read`."""
        with self._shared.locks.held(0, _WHAT):
            return self._cells.read()

    def close(self) -> None:
        """See `Counter.close`."""
        self._shared.close()


class RemoteCounter(Counter):
    """Cells of worker 0, which a thread of its serves to all; collective.

    An answer takes a message there and back, and a moment until that thread runs: of small models
    longer than a step. So a worker asks for its next number while it computes, and finds it there.

    The bad story of the last numbers:
    1. a worker ten times slower than the others takes a number, and one more ahead,
    2. the others take all that are left, and come to the end of the epoch,
    3. where they wait for two of its batches, though one of them was free for the second.
    So of the last `spare` numbers none is given ahead: as many as all together take in the time in
    which this worker makes one.

    Args:
        foresees: the next number is known while the batch before it is made, so that loaders make
            its own meanwhile; the one after it is asked for, so a worker holds two (of the last
            twice as many none is given).

    Raises:
        UserError: this MPI serves one thread only.
    """

    def __init__(self, world: World, *, foresees: bool = False) -> None:
        if not world.many_threads:
            raise UserError(
                f"{world.library} serves one thread only, and workers on several hosts need a "
                "second one to share out batches: use a rule that keeps step, such as diloco"
            )
        self._world = world.split(0)
        self._foresees = foresees
        self._asked: Question | None = None
        self._service: Service | None = None
        if world.rank == 0:
            desk = _CounterDesk(Cells(torch.zeros(2, dtype=torch.int64)))
            self._service = Service(self._world, {0: desk}, clients=world.size - 1)
            self._service.start()

    def take(self, limit: int, first: int = 0) -> int | None:
        """See `Counter.take`."""
        if self.ahead is not None:
            ahead, self.ahead = self.ahead, None
            return ahead
        asked, self._asked = self._asked, None
        number = _LATER if asked is None else int(asked.finish(_WHAT)[0])
        if number == _LATER:
            number = int(self._ask(_TAKE, limit, first)[0])
        return None if number == _NONE else number

    def ask_ahead(self, limit: int, spare: int) -> None:
        """See `Counter.ask_ahead`; worker 0 has the cells at hand."""
        if self._foresees:
            self._foresee(limit, spare)
        elif self._service is None:
            self._asked = Question(self._world, 0, 0, (_AHEAD, limit, spare))

    def _foresee(self, limit: int, spare: int) -> None:
        if self._service is not None:
            number = int(self._ask(_AHEAD, limit, spare)[0])
            self.ahead = number if number >= 0 else None
            return
        question = (_AHEAD, limit, 2 * spare)
        # Asked a batch ago, so the answer is there (but for the first of an epoch).
        asked, self._asked = self._asked or Question(self._world, 0, 0, question), None
        number = int(asked.finish(_WHAT)[0])
        if number >= 0:
            self.ahead, self._asked = number, Question(self._world, 0, 0, question)

    def stop(self, multiple: int) -> None:
        """See `Counter.stop`."""
        self._ask(_STOP, multiple)

    def read(self) -> tuple[int, bool]:
        """See `Counter.read`."""
        number, stopped, *_ = self._ask(_READ)
        return int(number), bool(stopped)

    def _ask(self, *question: int) -> Sequence[float]:
        if self._service is not None:
            return self._service.answer_here(0, question)[0]
        return ask(self._world, 0, 0, question, _WHAT)

    def close(self) -> None:
        """Say goodbye; worker 0 waits for all of them."""
        if self._service is None:
            say_goodbye(self._world, 0, _WHAT)
        else:
            self._service.join()


class _CounterDesk:
    """Answers questions to a counter."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    def answer(self, source: int, numbers: Sequence[float]) -> tuple[Sequence[float], None]:
        """The number (or why none is given), or the state, after the change that was asked for."""
        kind, *rest = map(int, numbers)
        if kind == _AHEAD and 0 < self._cells.left(rest[0]) <= rest[1]:
            return [_LATER], None
        if kind in (_TAKE, _AHEAD):
            taken = self._cells.take(rest[0], rest[1] if kind == _TAKE else 0)
            return [_NONE if taken is None else taken], None
        if kind == _STOP:
            self._cells.stop(rest[0])
        return [*map(float, self._cells.read())], None


def open_counter(world: World, *, foresees: bool = False) -> Counter:
    """The counter that suits where the workers are; collective.

    Args:
        foresees: `ask_ahead` takes the next number, for who loads its batch meanwhile.
    """
    if world.size == 1:
        return Cells(torch.zeros(2, dtype=torch.int64), foresees=foresees)
    one_host = len({peer.host for peer in world.peers}) == 1
    kind = SharedCounter if one_host else RemoteCounter
    return kind(world, foresees=foresees)
