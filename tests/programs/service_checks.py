"""The counter and the service behind it, over MPI (mpi_checks.py) or threads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from arignote.comm import questions
from arignote.comm.base import World
from arignote.comm.counter import Counter, RemoteCounter, SharedCounter
from arignote.comm.questions import Question, ask, say_goodbye
from arignote.comm.service import Service

KINDS = (SharedCounter, RemoteCounter)


def check_numbers(world: World, kind: Any) -> None:
    counter: Counter = kind(world)
    assert counter.read() == (0, False)
    world.meet([], "nobody has taken one")
    for first, limit in ((0, 50), (0, 50), (0, 53), (60, 70)):
        taken = []
        while (number := counter.take(limit, first)) is not None:
            taken.append(number)
        assert taken == sorted(taken)
        heard = world.gather(taken, "who has taken what")
        known = {(0, 50): range(50), (0, 53): range(50, 53), (60, 70): range(60, 70)}
        everything = sorted(chain(*heard))
        assert everything in ([], list(known[first, limit])), everything
        assert counter.read() == (limit, False)
        world.meet([], "all have read")
    counter.close()


def check_stop(world: World, kind: Any) -> None:
    n = world.size
    counter: Counter = kind(world)
    taken = [counter.take(100 * n)] if world.rank else []
    world.meet([], "all but one have taken one")
    if world.rank == 0:
        assert counter.read() == (n - 1, False)
        counter.stop(n)
        # Nobody can make it later again.
        counter.stop(5 * n)
    world.meet([], "one was told to stop")
    while (number := counter.take(100 * n)) is not None:
        taken.append(number)
    heard = world.gather(taken, "who has taken what")
    whole = n if n > 1 else 0
    assert sorted(chain(*heard)) == list(range(whole))
    assert counter.read() == (whole, True)
    assert counter.take(10**9, 10**6) is None
    counter.close()


PART = 1000
"""Elements."""


class Doubles:
    """A desk: numbers are added up, a payload is doubled, part by part."""

    def __init__(self) -> None:
        self.total = 0.0
        self.sources: list[int] = []

    def answer(
        self, source: int, numbers: Sequence[float]
    ) -> tuple[Sequence[float], InPlace | None]:
        """The sum, the double; numbers[1]: how many elements."""
        self.total += numbers[0]
        self.sources.append(source)
        return (self.total,), InPlace(int(numbers[1])) if numbers[1] else None


class InPlace:
    """Parts in as few rooms as there may be, each doubled in its room."""

    def __init__(self, elements: int) -> None:
        self.parts = -(-elements // PART)
        self._elements = elements
        self._rooms = torch.full((questions.WINDOW, PART), torch.nan)

    def room(self, number: int) -> torch.Tensor:
        """See `Parts.room`."""
        return self._rooms[number % questions.WINDOW, : self._elements - number * PART]

    def reply(self, number: int) -> torch.Tensor:
        """See `Parts.reply`."""
        return self.room(number).mul_(2)


class Asked:
    """A payload at the worker's end, and where the answer is put together."""

    def __init__(self, payload: torch.Tensor) -> None:
        self.parts = -(-len(payload) // PART)
        self.answer = torch.empty_like(payload)
        self._payload = payload
        self._rooms = torch.full((questions.WINDOW, PART), torch.nan)

    def payload(self, number: int) -> torch.Tensor:
        """See `Sheaf.payload`."""
        return self._payload[number * PART : (number + 1) * PART]

    def room(self, number: int) -> torch.Tensor:
        """See `Sheaf.room`."""
        return self._rooms[number % questions.WINDOW, : len(self.payload(number))]

    def take(self, number: int) -> None:
        """See `Sheaf.take`."""
        self.answer[number * PART : (number + 1) * PART] = self.room(number)


def check_service(world: World) -> None:
    """The last rank serves; all others ask at desk 1, with payloads and without."""
    part, server, n = world.split(0), world.size - 1, world.size
    if world.rank == server:
        desk = Doubles()
        Service(part, {1: desk}, clients=n - 1).run()
        assert desk.total == 20 * (n - 1)
        assert sorted(desk.sources) == sorted([*range(n - 1)] * 20)
    else:
        for turn in range(20):
            elements = (0, 1, 9 * PART + 3)[turn % 3]
            payload = torch.arange(elements).float() + world.rank
            asked = Asked(payload) if elements else None
            numbers = Question(part, server, 1, (1, elements), asked).finish("a")
            assert 0 < numbers[0] <= 20 * (n - 1)
            assert 0 <= numbers[questions.BUSY] < numbers[questions.AGE]
            if asked is not None:
                assert torch.equal(asked.answer, 2 * payload)
        say_goodbye(part, server, "a")
    world.meet([], "the end of the check")
    part.close()


def check_slow_payload(world: World) -> None:
    """Worker 1 announces a payload and keeps it back; worker 0 is served meanwhile, many times."""
    part, server = world.split(0), world.size - 1
    others = world.split(int(world.rank == server))
    if world.rank == server:
        Service(part, {0: Doubles()}, clients=server).run()
    elif world.rank == 1:
        numbers, answer = torch.zeros(8, dtype=torch.float64), torch.empty(3)
        awaited = [part.receive(numbers, server, questions.ANSWER)]
        awaited.append(part.receive(answer, server, questions.ENCLOSED))
        part.wait([part.send(questions.header([0, 0, 3]), server, questions.QUESTION)], "a header")
        others.meet([], "a header is on its way")
        others.meet([], "worker 0 has been served")
        assert not any(request.done() for request in awaited)
        part.wait([part.send(torch.ones(3), server, questions.PAYLOAD)], "a payload")
        part.wait(awaited, "an answer")
        assert 0 <= numbers[0] <= 30
        assert answer.tolist() == [2, 2, 2]
        say_goodbye(part, server, "a")
    else:
        others.meet([], "a header is on its way")
        for turn in range(30 if world.rank == 0 else 0):
            assert ask(part, server, 0, (1, 0), "a")[0] == turn + 1
        others.meet([], "worker 0 has been served")
        say_goodbye(part, server, "a")
    world.meet([], "the end of the check")
    part.close()


def check_all(world: World) -> None:
    """All of them."""
    for kind in KINDS:
        check_numbers(world, kind)
        check_stop(world, kind)
    check_service(world)
    check_slow_payload(world)
