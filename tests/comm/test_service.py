"""Questions and answers: nobody waits for another client, and nobody for ever."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from arignote.comm import questions
from arignote.comm.base import World
from arignote.comm.questions import ask, say_goodbye
from arignote.comm.service import Service
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import LostWorkerError

sys.path.insert(0, str(Path(__file__).parents[1] / "programs"))
import service_checks


@pytest.mark.parametrize("size", [2, 3, 5])
def test_everybody_is_answered(size: int) -> None:
    run_threads(thread_worlds(size), service_checks.check_service)


def test_a_slow_payload_holds_up_nobody_else() -> None:
    run_threads(thread_worlds(4), service_checks.check_slow_payload)


def test_one_client_may_ask_while_another_never_does() -> None:
    def work(world: World) -> None:
        if world.rank == 0:
            Service(world, {0: service_checks.Doubles()}, clients=2).run()
        if world.rank == 1:
            assert [ask(world, 0, 0, (1, 0), "it")[0] for _ in range(9)] == list(range(1, 10))
            # The other says goodbye only now, having asked nothing.
            world.wait([world.send(torch.ones(1), 2, 1)], "a sign")
        if world.rank == 2:
            world.wait([world.receive(torch.empty(1), 1, 1)], "a sign")
        if world.rank:
            say_goodbye(world, 0, "it")

    run_threads(thread_worlds(3), work)


def test_beside_the_thread_the_own_process_asks_too() -> None:
    desk = service_checks.Doubles()

    def work(world: World) -> None:
        if world.rank:
            for _ in range(300):
                ask(world, 0, 0, (1, 0), "it")
            say_goodbye(world, 0, "it")
            return
        service = Service(world, {0: desk}, clients=2)
        service.start()
        for _ in range(300):
            reply, parts = service.answer_here(0, (1, 0))
        service.join()
        assert parts is None
        assert 0 <= reply[questions.BUSY] < reply[questions.AGE]

    run_threads(thread_worlds(3), work)
    assert desk.total == 900
    assert {source: desk.sources.count(source) for source in (0, 1, 2)} == {0: 300, 1: 300, 2: 300}


class Broken:
    """A desk with a fault."""

    def answer(self, source: int, numbers: Sequence[float]) -> Any:
        """The fault."""
        raise RuntimeError(f"a fault with {source}")


@pytest.mark.parametrize("where", ["answer_here", "join"])
def test_an_error_at_a_desk_reaches_the_main_thread(where: str) -> None:
    told = threading.Event()

    def work(world: World) -> None:
        if world.rank:
            with pytest.raises(
                LostWorkerError, match=r"worker 0 sent nothing for it within 0\.3 s"
            ):
                ask(world, 0, 0, (), "it")
            told.set()
            return
        service = Service(world, {0: Broken()}, clients=1)
        service.start()
        assert told.wait(10)
        with pytest.raises(RuntimeError, match="a fault with 1"):
            service.join() if where == "join" else service.answer_here(0, ())

    run_threads(thread_worlds(2, timeout_seconds=0.3), work)


def test_who_says_no_goodbye_is_named() -> None:
    done = threading.Event()

    def work(world: World) -> None:
        if world.rank == 0:
            service = Service(world, {}, clients=2)
            service.start()
            with pytest.raises(
                LostWorkerError, match=r"^worker 2 \(host .*, pid \d+\) did not say "
            ):
                service.join()
            done.set()
        if world.rank == 2:
            assert done.wait(10)
        if world.rank:
            say_goodbye(world, 0, "it")

    run_threads(thread_worlds(3, timeout_seconds=0.3), work)


def test_how_long_it_sleeps() -> None:
    (world,) = thread_worlds(1)
    service = Service(world, {}, clients=1)
    service._did = 100.0

    def naps(*moments: float) -> list[float]:
        return [round(service._nap_seconds(now), 6) for now in moments]

    # A server of its own has nothing else to do while the next part is near.
    assert naps(100.0, 100.1, 200.0) == [0, 0.002, 0.002]
    world.patient = True
    assert naps(100.0, 100.1) == [0.0001, 0.002]
    service._thread = threading.Thread()
    assert naps(100.0, 100.001, 100.004, 100.1) == [0.0005, 0.0005, 0.001, 0.002]
    # What is on its way moves only when somebody looks.
    service._sending.append((world.send(torch.ones(1), 0, 1), torch.ones(1)))
    assert naps(100.0, 200.0) == [0.0001, 0.0001]
