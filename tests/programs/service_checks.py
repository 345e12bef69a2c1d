"""The counter and the service behind it, over MPI (mpi_checks.py) or threads."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch

from arignote.comm import service
from arignote.comm.base import World
from arignote.comm.counter import Counter, RemoteCounter, SharedCounter
from arignote.comm.service import Service, ask, say_goodbye

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


class Doubles:
    """A desk: numbers are added up, a payload is doubled."""

    def __init__(self) -> None:
        self.total = 0.0
        self.sources: list[int] = []

    def payload(self, source: int, numbers: Sequence[float]) -> torch.Tensor | None:
        """numbers[1]: how many elements."""
        return torch.empty(int(numbers[1])) if numbers[1] else None

    def answer(
        self, source: int, numbers: Sequence[float], payload: torch.Tensor | None
    ) -> tuple[Sequence[float], torch.Tensor | None]:
        """The sum, the double."""
        self.total += numbers[0]
        self.sources.append(source)
        return (self.total,), None if payload is None else 2 * payload


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
            elements = (0, 1, 100_003)[turn % 3]
            payload = torch.arange(elements).float() + world.rank if elements else None
            answer = torch.empty(elements) if elements else None
            numbers = ask(part, server, 1, (1, elements), "a", payload=payload, answer=answer)
            assert 0 < numbers[0] <= 20 * (n - 1)
            if payload is not None and answer is not None:
                assert torch.equal(answer, 2 * payload)
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
        awaited = [part.receive(numbers, server, service._ANSWER)]
        awaited.append(part.receive(answer, server, service._ENCLOSED))
        part.wait([part.send(service._header([0, 1, 3]), server, service._QUESTION)], "a header")
        others.meet([], "a header is on its way")
        others.meet([], "worker 0 has been served")
        assert not any(request.done() for request in awaited)
        part.wait([part.send(torch.ones(3), server, service._PAYLOAD)], "a payload")
        part.wait(awaited, "an answer")
        assert numbers[0] == 31
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
