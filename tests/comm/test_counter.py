"""Every number once, whoever asks and wherever the counter lies.

Over MPI: tests/common/test_every_world.py, whose program checks services too.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from arignote.comm.base import World
from arignote.comm.counter import Cells, RemoteCounter, SharedCounter, open_counter
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import UserError

PROGRAMS = Path(__file__).parents[1] / "programs"
sys.path.insert(0, str(PROGRAMS))
import service_checks  # noqa: E402


def cells() -> Cells:
    return Cells(torch.zeros(2, dtype=torch.int64))


def test_limits() -> None:
    counter = cells()
    assert [counter.take(3) for _ in range(5)] == [0, 1, 2, None, None]
    assert counter.take(2) is None
    assert counter.take(10, first=7) == 7
    assert counter.take(10, first=2) == 8
    assert counter.read() == (9, False)
    assert counter.take(0) is None


@pytest.mark.parametrize(
    ("taken", "multiple", "whole"), [(0, 3, 0), (1, 3, 3), (3, 3, 3), (4, 3, 6), (5, 1, 5)]
)
def test_stop_makes_a_step_whole(taken: int, multiple: int, whole: int) -> None:
    counter = cells()
    for _ in range(taken):
        counter.take(100)
    counter.stop(multiple)
    while counter.take(100) is not None:
        pass
    assert counter.read() == (whole, True)
    counter.stop(100)
    assert counter.take(100) is None


def test_a_limit_below_the_stop_still_counts() -> None:
    counter = cells()
    counter.take(4)
    counter.stop(4)
    assert [counter.take(2), counter.take(2)] == [1, None]
    assert counter.read() == (2, True)


def test_what_is_left() -> None:
    counter = cells()
    assert [counter.left(3), counter.left(0)] == [3, 0]
    counter.take(3)
    counter.take(3)
    assert [counter.left(3), counter.left(1), counter.left(9)] == [1, 0, 7]
    counter.stop(4)
    assert [counter.left(3), counter.left(9)] == [1, 2]


def of_a_client(work: Any, workers: int = 2, *, foresees: bool = False) -> Any:
    """What `work(counter)` returns on worker 1 of a remote counter that nobody else takes from."""

    def rank(world: World) -> Any:
        counter = RemoteCounter(world, foresees=foresees)
        result = work(counter) if world.rank == 1 else None
        world.meet([], "the end of the work")
        counter.close()
        return result

    return run_threads(thread_worlds(workers), rank)[1]


def test_the_next_number_is_there_before_it_is_needed(wait_until: Any) -> None:
    def work(counter: Any) -> list[Any]:
        numbers = [counter.take(10)]
        for _ in range(3):
            counter.ask_ahead(10, 2)
            # Nobody takes meanwhile: the answer comes by itself.
            requests = counter._asked._requests
            wait_until(lambda: all(r.done() for r in requests), 5, "the answer")  # noqa: B023
            numbers.append(counter.take(10))
        return [*numbers, counter.take(10), counter.read()]

    assert of_a_client(work) == [0, 1, 2, 3, 4, (5, False)]


@pytest.mark.parametrize(("spare", "ahead"), [(0, 4), (1, 3), (3, 1), (4, 0), (99, 0)])
def test_the_last_numbers_are_not_given_ahead(spare: int, ahead: int) -> None:
    def work(counter: Any) -> list[int]:
        reached = []
        for _ in range(4):
            counter.ask_ahead(4, spare)
            reached.append(counter.read()[0])
            counter.take(4)
        # There is none left, and that is known ahead, for good.
        counter.ask_ahead(4, spare)
        assert counter.take(4) is None
        return reached

    # What the counter has come to when the question was answered: one more where it gave a number.
    assert of_a_client(work) == [n + (n < ahead) for n in range(4)]


def test_a_number_asked_for_ahead_outlives_a_wish_to_stop() -> None:
    def work(counter: Any) -> list[Any]:
        counter.ask_ahead(100, 5)
        counter.stop(3)
        made = [counter.take(100)]
        while made[-1] is not None:
            counter.ask_ahead(100, 0)
            made.append(counter.take(100))
        return [*made, counter.read()]

    # It was given before the stop: the step it belongs to is made whole.
    assert of_a_client(work) == [0, 1, 2, None, (3, True)]


@pytest.mark.parametrize("kind", service_checks.KINDS)
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("limits", [(1,), (3, 7), (40, 41, 80)])
def test_numbers_that_are_foreseen_are_taken_once(kind: Any, size: int, limits: Any) -> None:
    def rank(world: World) -> Any:
        counter = kind(world, foresees=True)
        taken, foreseen = [], []
        for limit in limits:
            while (number := counter.take(limit)) is not None:
                taken.append(number)
                counter.ask_ahead(limit, world.size)
                if counter.ahead is not None:
                    foreseen.append(counter.ahead)
            world.meet([], "the end of the run")
        counter.close()
        return taken, foreseen

    heard = run_threads(thread_worlds(size), rank)
    assert sorted(number for taken, _ in heard for number in taken) == list(range(limits[-1]))
    for taken, foreseen in heard:
        assert set(foreseen) <= set(taken)
    if limits[-1] > 20:
        assert any(foreseen for _, foreseen in heard)


def test_what_is_foreseen_is_held_and_the_next_is_asked_for() -> None:
    def work(counter: Any) -> list[Any]:
        seen = []
        while (number := counter.take(9)) is not None:
            counter.ask_ahead(9, 1)
            seen.append((number, counter.ahead, counter.read()[0]))
        return seen

    # (made, known to come, given out so far): of the last 2 x 1 none is given ahead.
    assert of_a_client(work, foresees=True) == [
        *((n, n + 1, n + 3) for n in range(5)),
        (5, 6, 7),
        (6, None, 7),
        (7, None, 8),
        (8, None, 9),
    ]


def test_what_is_foreseen_outlives_a_wish_to_stop() -> None:
    def work(counter: Any) -> list[Any]:
        made = [counter.take(100)]
        counter.ask_ahead(100, 1)
        counter.stop(4)
        while made[-1] is not None:
            made.append(counter.take(100))
            counter.ask_ahead(100, 1)
        return [*made, counter.read()]

    assert of_a_client(work, foresees=True) == [0, 1, 2, 3, None, (4, True)]


@pytest.mark.parametrize("kind", service_checks.KINDS)
@pytest.mark.parametrize("size", [2, 3, 5])
def test_threads(kind: Any, size: int) -> None:
    run_threads(thread_worlds(size), lambda world: service_checks.check_numbers(world, kind))
    run_threads(thread_worlds(size), lambda world: service_checks.check_stop(world, kind))


def test_which_counter() -> None:
    assert isinstance(open_counter(SerialWorld()), Cells)

    def kind(world: World) -> Any:
        counter = open_counter(world)
        counter.close()
        return type(counter)

    assert run_threads(thread_worlds(2), kind) == [SharedCounter] * 2
    assert run_threads(thread_worlds(3, hosts=["a", "b", "a"]), kind) == [RemoteCounter] * 3
    wait_for_no_service()


def wait_for_no_service() -> None:
    deadline = time.monotonic() + 5
    while any(thread.name == "service" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_mpi_of_one_thread() -> None:
    (world,) = thread_worlds(1)
    world.many_threads = False
    with pytest.raises(UserError, match="threads serves one thread only, and workers on several"):
        RemoteCounter(world)
