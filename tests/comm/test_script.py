"""Threads in a script: the same seed is the same order, and nobody hangs."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
import torch

from arignote.comm.base import World
from arignote.comm.script import DeadlockError, Script
from arignote.comm.threads import ThreadWorld, restart_script, run_threads, thread_worlds


def ping_pong(world: World, rounds: int, trace: list[Any]) -> None:
    """Worker 0 answers whoever asks first; the others ask `rounds` times."""
    wire = torch.zeros(1)
    if world.rank == 0:
        for _ in range(rounds * (world.size - 1)):
            while (source := world.probe(1)) is None:
                pass
            world.wait([world.receive(wire, source, 1)], "a ping")
            trace.append((source, wire.item()))
            world.wait([world.send(wire, source, 2)], "a pong")
    else:
        for turn in range(rounds):
            world.send(torch.full((1,), float(turn)), 0, 1)
            world.wait([world.receive(wire, 0, 2)], "a pong")
            assert wire.item() == turn


def trace_of(seed: int, size: int = 4, rounds: int = 5) -> list[Any]:
    trace: list[Any] = []
    worlds = thread_worlds(size, script=Script(seed))
    run_threads(worlds, lambda world: ping_pong(world, rounds, trace))
    return trace


def test_a_seed_is_an_order() -> None:
    traces = [trace_of(seed) for seed in range(10)]
    assert traces == [trace_of(seed) for seed in range(10)]
    assert len({str(trace) for trace in traces}) == 10


def test_a_thousand_schedules() -> None:
    traces = {str(trace_of(seed, size=3, rounds=2)) for seed in range(1000)}
    # Of the orders in which two workers can be heard twice each, all are found.
    assert len(traces) == 6


def test_workers_start_in_the_order_of_their_ranks() -> None:
    for seed in range(20):
        began: list[int] = []

        def work(world: World, began: list[int] = began) -> None:
            began.append(world.rank)
            world.meet([], "a meeting")

        run_threads(thread_worlds(4, script=Script(seed)), work)
        assert began == [0, 1, 2, 3]


def test_a_split_and_a_second_run_are_in_the_script() -> None:
    def trace() -> list[Any]:
        order: list[Any] = []
        worlds = thread_worlds(4, script=Script(5))

        def work(world: World) -> None:
            part = world.split(world.rank % 2)
            for turn in range(10):
                part.meet([], "a part")
                order.append((world.rank, turn))

        run_threads(worlds, work)
        run_threads(worlds, work)
        return order

    assert trace() == trace()


def test_deadlock_is_named() -> None:
    def work(world: World) -> None:
        try:
            if world.rank == 0:
                world.meet([], "step 5")
            elif world.rank == 1:
                world.wait([world.receive(torch.empty(1), 0, 3)], "the news")
            elif world.rank == 2:
                while world.probe(9) is None:
                    pass
        except DeadlockError as error:
            told.append(str(error))
            raise

    told: list[str] = []
    with pytest.raises(DeadlockError, match="nothing changed in 500 handovers"):
        run_threads(thread_worlds(4, script=Script(1, patience=500)), work)
    assert len(told) == 3
    assert set(told) == {
        "nothing changed in 500 handovers: "
        "worker 0 waits: worker 1, worker 2, worker 3 did not come to step 5; "
        "worker 1 waits: worker 0 sent nothing for the news; "
        "worker 2 looks for a message with tag 9; "
        "worker 3 has ended"
    }


def test_deadlock_is_found_soon() -> None:
    begun = time.monotonic()
    with pytest.raises(DeadlockError, match=r"worker 1 has ended"):
        run_threads(
            thread_worlds(3, script=Script(1)),
            lambda world: world.meet([], "step 5") if world.rank != 1 else None,
        )
    assert time.monotonic() - begun < 15


def test_exception_in_one_thread_is_what_is_raised() -> None:
    def work(world: World) -> None:
        for turn in range(5):
            world.meet([], f"step {turn}")
            if turn == 3 and world.rank == 1:
                raise ValueError("a fault of worker 1")

    with pytest.raises(ValueError, match="a fault of worker 1"):
        run_threads(thread_worlds(3, script=Script(1, patience=500)), work)


def test_an_exception_leaves_the_others_to_finish() -> None:
    finished: list[int] = []

    def work(world: World) -> None:
        part = world.split(world.rank == 1)
        if world.rank == 1:
            raise ValueError("a fault of worker 1")
        for turn in range(50):
            part.meet([], f"step {turn}")
        finished.append(world.rank)

    with pytest.raises(ValueError, match="a fault of worker 1"):
        run_threads(thread_worlds(3, script=Script(1)), work)
    assert sorted(finished) == [0, 2]


def test_after_a_restart_the_past_does_not_count() -> None:
    def trace(seed: int, rounds: int, restart: int) -> list[Any]:
        after: list[Any] = []

        def work(world: World) -> None:
            ping_pong(world, rounds, [])
            meeting = world.open_meeting([1.0])
            restart_script(world, restart)
            after.append(world.rank)
            ping_pong(world, 5, after)
            world.close_meeting(meeting, "the end")

        run_threads(thread_worlds(4, script=Script(seed)), work)
        return after

    for restart in range(10):
        one = trace(1, 3, restart)
        assert one == trace(2, 3, restart)
        assert one == trace(3, 4, restart)
    assert trace(1, 3, 1) != trace(1, 3, 2)


def serve(world: ThreadWorld, clients: int) -> None:
    """Answer until all have said goodbye with a negative number."""
    wire = torch.zeros(1)
    while clients:
        source = world.probe(1)
        if source is not None:
            world.wait([world.receive(wire, source, 1)], "a question")
            clients -= bool(wire < 0)
            world.send(wire, source, 2)


def test_service_thread_joins() -> None:
    def trace(seed: int) -> list[Any]:
        script = Script(seed)
        order: list[Any] = []

        def service(world: ThreadWorld) -> None:
            with script.joined("service"):
                serve(world, world.size - 1)

        def work(world: World) -> None:
            private = world.split(0)
            if world.rank == 0:
                thread = threading.Thread(target=service, args=(private,))
                thread.start()
                script.await_joined("service")
                script.await_left("service")
                thread.join()
                return
            for turn in (*range(4), -1):
                private.send(torch.full((1,), float(turn)), 0, 1)
                private.wait([private.receive(torch.empty(1), 0, 2)], "an answer")
                order.append((world.rank, turn))

        run_threads(thread_worlds(3, script=script), work)
        return order

    traces = [trace(seed) for seed in range(5)]
    assert traces == [trace(seed) for seed in range(5)]
    assert len({str(one) for one in traces}) == 5


def test_service_thread_ends_with_a_failed_run() -> None:
    script = Script(1, patience=500)
    threads: list[threading.Thread] = []

    def service(world: ThreadWorld) -> None:
        failure = pytest.raises(DeadlockError, match="a worker of the script failed")
        with failure, script.joined("service"):
            serve(world, 1)

    def work(world: World) -> None:
        private = world.split(0)
        if world.rank == 0:
            threads.append(threading.Thread(target=service, args=(private,)))
            threads[0].start()
            script.await_joined("service")
        raise ValueError(f"a fault of worker {world.rank}")

    with pytest.raises(ValueError, match="a fault of worker 0"):
        run_threads(thread_worlds(2, script=script), work)
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_names_are_of_one_thread_each() -> None:
    script = Script(1)

    def work(world: World) -> None:
        name = "another name" if world.rank else "worker 1"
        with pytest.raises(ValueError, match="in the script already"), script.joined(name):
            pass
        world.meet([], "the end")

    run_threads(thread_worlds(2, script=script), work)


def test_threads_outside_the_script_go_on_without() -> None:
    def work(world: World) -> list[float]:
        other = world.split(0)
        sums: list[float] = []
        threads = [threading.Thread(target=lambda: sums.append(other.meet([2.0], "x")[0]))]
        threads[0].start()
        world.meet([], "all have started theirs")
        threads[0].join(10)
        return sums

    assert run_threads(thread_worlds(3, script=Script(1)), work) == [[6.0]] * 3
