"""Who makes which part: every part once, whole steps, whatever the workers do."""

from __future__ import annotations

import threading
import time
from itertools import chain
from typing import Any

import pytest

from arignote.comm.base import World
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.recorder.phases import Recorder
from arignote.trainer.turns import InStep, Taken

HOSTS = ((), ("a", "b", "a", "b"))


def run(size: int, work: Any, hosts: Any = ()) -> list[Any]:
    if size == 1:
        return [work(SerialWorld())]
    return run_threads(thread_worlds(size, hosts=hosts[:size]), work)


@pytest.mark.parametrize("hosts", HOSTS, ids=["shared", "remote"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_every_part_once(size: int, hosts: Any) -> None:
    def work(world: World) -> list[list[tuple[int, int]]]:
        turns = Taken(world, Recorder())
        runs = []
        for steps in (7, 1, 0, 5):
            made: list[tuple[int, int]] = []

            def make(step: int, part: int, made: list[tuple[int, int]] = made) -> bool:
                made.append((step, part))
                return False

            assert turns.run(steps, make) == (steps, False)
            assert made == sorted(made)
            runs.append(made)
        turns.close()
        return runs

    everybodys = run(size, work, hosts)
    for number, steps in enumerate((7, 1, 0, 5)):
        made = sorted(chain(*(runs[number] for runs in everybodys)))
        assert made == [(step, part) for step in range(steps) for part in range(size)]


@pytest.mark.parametrize("hosts", HOSTS, ids=["shared", "remote"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_wish_to_stop_ends_at_a_whole_step(size: int, hosts: Any) -> None:
    told = threading.Event()

    def work(world: World) -> Any:
        turns, made = Taken(world, Recorder()), []
        stop = turns._counter.stop

        def tell(multiple: int) -> None:
            stop(multiple)
            told.set()

        def make(step: int, part: int) -> bool:
            made.append((step, part))
            # Or one thread might make all before that of the other runs again.
            assert step <= 4 or told.wait(20)
            # Whoever makes this part.
            return (step, part) == (4, size // 2)

        turns._counter.stop = tell  # type: ignore[method-assign]

        steps, stopped = turns.run(100, make)
        assert stopped
        assert turns.run(100, make) == (0, True)
        turns.close()
        return steps, made

    everybodys = run(size, work, hosts)
    (steps,) = {steps for steps, _ in everybodys}
    made = sorted(chain(*(made for _, made in everybodys)))
    assert made == [(step, part) for step in range(steps) for part in range(size)]
    # The others may have begun another part each meanwhile, and asked for one more.
    assert 5 <= steps <= 5 + 2 * size


def test_a_slow_worker_makes_fewer_and_nobody_waits_for_it() -> None:
    def work(world: World) -> tuple[int, float]:
        recorder = Recorder()
        turns, made = Taken(world, recorder), []

        def make(step: int, part: int) -> bool:
            time.sleep(0.2 if world.rank == 1 else 0.005)
            made.append(step)
            return False

        turns.run(20, make)
        return len(made), recorder.seconds["sync"]

    (first, _), (slow, sync), (third, _) = run(3, work)
    assert first + slow + third == 60
    assert slow <= 3
    # Where the time at the end goes stands in the record.
    assert sync < 0.15


def test_who_is_slow_spares_as_many_as_go_while_it_makes_one(wait_until: Any) -> None:
    made, spared = [0, 0], []

    def work(world: World) -> None:
        turns = Taken(world, Recorder())
        ask = turns._counter.ask_ahead

        def spy(limit: int, spare: int) -> None:
            if world.rank == 1:
                spared.append(spare)
            ask(limit, spare)

        def make(step: int, part: int) -> bool:
            # Worker 0 makes ten while worker 1 makes one.
            ahead = made[0] - 10 * made[1]
            if world.rank == 0 and ahead == 10:
                wait_until(lambda: made[0] < 10 * made[1] + 10, 20, "a part of worker 1")
            if world.rank == 1:
                wait_until(lambda: made[0] >= 10 * made[1] + 10 or sum(made) >= 79, 20, "ten parts")
            made[world.rank] += 1
            return False

        turns._counter.ask_ahead = spy  # type: ignore[method-assign]
        assert turns.run(40, make) == (40, False)
        turns.close()

    run(2, work, ("a", "b"))
    assert sum(made) == 80
    # Nothing was asked for ahead before that was known.
    assert len(spared) == made[1] - 1
    # A worker 1 that comes late to its second part, while worker 0 has made its ten, is given the
    # third and the fourth at once: two strides of 1, and the least is spared, once.
    assert all(8 <= spare <= 22 for spare in spared[3:]), spared


def test_all_have_read_before_anybody_goes_on() -> None:
    # Where worker 0 is late to look, it must not take the next part of another for the last.
    def work(world: World) -> None:
        turns = Taken(world, Recorder())
        read = turns._counter.read

        def late() -> tuple[int, bool]:
            time.sleep(0.05)
            return read()

        turns._counter.read = late  # type: ignore[method-assign]
        for _ in range(3):
            assert turns.run(3, lambda step, part: False) == (3, False)

    run(3, work)


def test_in_step() -> None:
    def work(world: World) -> None:
        turns, made = InStep(world), []

        def make(step: int, part: int) -> bool:
            made.append((step, part))
            return step == 3

        assert turns.run(2, make) == (2, False)
        assert turns.run(9, make) == (4, True)
        assert made == [(step, world.rank) for step in (0, 1, 0, 1, 2, 3)]
        turns.close()

    run(2, work)
