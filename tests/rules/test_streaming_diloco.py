"""Streaming DiLoCo against NumPy, its identity with DiLoCo, and what is on its way at a save."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import LostWorkerError, UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.torch_replica import TorchReplica
from arignote.rules.base import Bring, Rule
from arignote.rules.outer import Background
from arignote.rules.streaming_diloco import cut_near_borders, due_fragment

sys.path.insert(0, str(Path(__file__).parent))
from outer_setup import RATE, centre, make


def samples(rank: int, step: int) -> float:
    return float(1 + (rank + step) % 3)


def train(rule: Rule, replica: TorchReplica, steps: range) -> None:
    """On |x - c|^2 / 2, with batches of 1 to 3 samples."""
    for step in steps:
        rank = rule.world.rank
        replica.gradients[0].copy_(replica.parameters[0] - torch.from_numpy(centre(rank, step)))
        rule.step(replica, Bring(samples=samples(rank, step)))


def weights(text: str, workers: int, steps: int, *, hosts: Any = (), **how: Any) -> Any:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(text, world, **how)
        rule.start(replica)
        train(rule, replica, range(steps))
        rule.finish(replica)
        return replica.parameters[0].clone()

    return run_threads(thread_worlds(workers, hosts=hosts), work)


def copied(state: Any) -> Any:
    """As a checkpoint holds it."""
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [copied(value) for value in state]
    return state.clone() if isinstance(state, torch.Tensor) else state


def test_every_fragment_is_due_once_a_period_and_no_two_together() -> None:
    assert [due_fragment(t, period=8, fragments=1) for t in range(1, 10)] == [
        *[None] * 7,
        0,
        None,
    ]
    due = [due_fragment(t, period=8, fragments=4) for t in range(1, 9)]
    assert due == [None, 3, None, 2, None, 1, None, 0]
    for period, fragments in [(7, 3), (5, 5), (50, 7), (3, 1)]:
        found = [due_fragment(t, period=period, fragments=fragments) for t in range(period)]
        assert sorted(f for f in found if f is not None) == list(range(fragments))
        times = [t for t, f in enumerate(found) if f is not None]
        gaps = np.diff([*times, times[0] + period])
        assert max(gaps) - min(gaps) <= 1


def test_fragments_end_at_borders_of_tensors_that_are_near() -> None:
    def ends(parts: int, *sizes: int) -> list[int]:
        return [cut.stop for cut in cut_near_borders([torch.Size([n]) for n in sizes], parts)]

    assert ends(2, 45, 55) == [45, 100]
    assert ends(2, 30, 70) == [50, 100]
    assert ends(4, 24, 27, 30, 19) == [24, 51, 81, 100]
    assert ends(3, 1) == [0, 0, 1]
    assert ends(1, 5, 5) == [10]
    for parts in (1, 2, 3, 10, 49):
        cuts = cut_near_borders([torch.Size([6, 7]), torch.Size([7])], parts)
        assert [c.start for c in cuts] == [0, *(c.stop for c in cuts[:-1])]
        assert cuts[-1].stop == 49 and all(c.stop > c.start for c in cuts)


@pytest.mark.parametrize("exchange", ["shm", "asa:int8"])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_one_fragment_without_delay_is_diloco_bit_for_bit(workers: int, exchange: str) -> None:
    how: Any = {"exchange": exchange, "dtype": torch.float32}
    plain = weights("diloco:period=5", workers, 23, **how)
    text = "streaming-diloco:period=5,fragments=1,delay=0,own=0"
    for a, b in zip(weights(text, workers, 23, **how), plain, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def reference(workers: int, steps: int, parts: list[slice], delay: int, own: float) -> Any:
    """The formulas of the docstring; period 5, eta 0.6, mu 0.8."""
    first = np.append(torch.linspace(-1, 1, 42).double().numpy(), np.full(7, 0.5))
    x, old, v = [first.copy() for _ in range(workers)], first.copy(), np.zeros(49)
    since = np.zeros((len(parts), workers))
    flights: list[tuple[int, slice, Any]] = []
    for step in range(1, steps + 1):
        for i in range(workers):
            x[i] = x[i] - RATE * (x[i] - centre(i, step - 1))
            since[:, i] += samples(i, step - 1)
        for f, part in enumerate(parts):
            if (step + f * 5 // len(parts)) % 5 == 0:
                share = since[f] / since[f].sum()
                change = sum(s * (old[part] - xi[part]) for s, xi in zip(share, x, strict=True))
                flights.append((step + delay, part, change))
                since[f] = 0
        for due, part, change in list(flights):
            if due == step:
                v[part] = 0.8 * v[part] + change
                old[part] = old[part] - 0.6 * (change + 0.8 * v[part])
                for xi in x:
                    xi[part] = (1 - own) * old[part] + own * xi[part]
        flights = [flight for flight in flights if flight[0] > step]
    return x


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize(("fragments", "delay", "own"), [(3, 2, 0.25), (5, 4, 0.5), (2, 0, 0.0)])
def test_against_numpy(workers: int, fragments: int, delay: int, own: float) -> None:
    text = (
        f"streaming-diloco:period=5,fragments={fragments},delay={delay},own={own},"
        "outer_learning_rate=0.6,outer_momentum=0.8"
    )
    parts = cut_near_borders([torch.Size([7, 6]), torch.Size([7])], fragments)
    wanted = reference(workers, 33, parts, delay, own)
    for x, y in zip(weights(text, workers, 33), wanted, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("hosts", [(), ["a", "a", "b"]], ids=["one host", "two hosts"])
def test_beside_the_steps_and_in_between_give_the_same_bits(hosts: Any) -> None:
    text = "streaming-diloco:period=6,fragments=3,delay=2"

    def work(world: Any, many_threads: bool) -> torch.Tensor:
        world.many_threads = many_threads
        rule, replica = make(text, world, "hier" if hosts else "shm")
        rule.start(replica)
        train(rule, replica, range(20))
        rule.finish(replica)
        return replica.parameters[0].clone()

    ends = [
        run_threads(thread_worlds(3, hosts=hosts), lambda world, both=both: work(world, both))
        for both in (True, False)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("exchange", ["shm", "asa:int8", "asa:onebit", "asa:powersgd,rank=2"])
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_any_codec_comes_near_the_optimum(exchange: str, workers: int) -> None:
    text = "streaming-diloco:period=6,fragments=2,delay=1,own=0.25,outer_momentum=0.3"
    for x in weights(text, workers, 150, exchange=exchange, dtype=torch.float32):
        assert float((x - 1).abs().mean()) < 0.3


@pytest.mark.parametrize("exchange", ["shm", "asa:int8", "asa:onebit"])
@pytest.mark.parametrize("stop_at", [10, 11, 12, 13])
def test_resuming_with_fragments_on_their_way_equals_not_stopping(
    exchange: str, stop_at: int
) -> None:
    text = "streaming-diloco:period=6,fragments=3,delay=3"

    def work(world: Any) -> tuple[int, bool]:
        rule, replica = make(text, world, exchange, torch.float32)
        rule.start(replica)
        train(rule, replica, range(stop_at))
        state = copied(rule.state_dict())
        again, fresh = make(text, world, exchange, torch.float32)
        again.start(fresh)
        fresh.parameters[0].copy_(replica.parameters[0])
        again.load_state_dict(state)
        for each in ((rule, replica), (again, fresh)):
            train(*each, range(stop_at, stop_at + 15))
            each[0].finish(each[1])
        return len(state["flights"]), torch.equal(replica.parameters[0], fresh.parameters[0])

    on_their_way = 1 if stop_at % 2 else 2
    assert run_threads(thread_worlds(3), work) == [(on_their_way, True)] * 3


@pytest.mark.parametrize(("before", "now"), [(4, 2), (2, 3), (3, 1)])
def test_resuming_with_another_number_of_workers(before: int, now: int) -> None:
    text = "streaming-diloco:period=6,fragments=3,delay=3,own=0.25,outer_momentum=0.3"

    def first(world: Any) -> Any:
        rule, replica = make(text, world)
        rule.start(replica)
        train(rule, replica, range(12))
        state = copied(rule.state_dict())
        with rule.consensus(replica):
            return state, replica.parameters[0].clone()

    saved = run_threads(thread_worlds(before), first)

    def second(world: Any) -> Any:
        rule, replica = make(text, world)
        rule.start(replica)
        replica.parameters[0].copy_(saved[0][1])
        rule.merge_state_dicts([state for state, _ in saved])
        state = rule.state_dict()
        for key in ("old", "velocity"):
            assert torch.equal(state[key][0], saved[0][0][key][0])
        assert [f["due"] for f in state["flights"]] == [13, 15]
        assert torch.equal(state["flights"][0]["means"][0], saved[0][0]["flights"][0]["means"][0])
        train(rule, replica, range(12, 80))
        return replica.parameters[0].clone()

    for x in run_threads(thread_worlds(now), second):
        assert float((x - 1).abs().mean()) < 0.3


def test_other_fragments_after_a_resume_take_up_what_was_on_its_way() -> None:
    def work(world: Any) -> int:
        rule, replica = make("streaming-diloco:period=6,fragments=3,delay=3", world)
        rule.start(replica)
        train(rule, replica, range(12))
        state = copied(rule.state_dict())
        again, fresh = make("streaming-diloco:period=6,fragments=2,delay=1", world)
        again.start(fresh)
        again.load_state_dict(state)
        found = len(again.state_dict()["flights"])
        train(again, fresh, range(12, 20))
        return found

    assert run_threads(thread_worlds(2), work) == [0, 0]


def test_the_end_waits_for_what_is_on_its_way_and_changes_no_weight() -> None:
    def work(world: Any) -> bool:
        rule, replica = make("streaming-diloco:period=6,fragments=3,delay=5", world)
        rule.start(replica)
        train(rule, replica, range(12))
        before = replica.parameters[0].clone()
        rule.finish(replica)
        assert rule.state_dict()["flights"] == []
        return torch.equal(before, replica.parameters[0])

    assert run_threads(thread_worlds(3), work) == [True] * 3


def test_a_wish_to_stop_reaches_everyone_at_a_round() -> None:
    def work(world: Any) -> list[int]:
        rule, replica = make("streaming-diloco:period=8,fragments=4", world)
        rule.start(replica)
        told = world.rank == 1
        return [
            step
            for step in range(1, 8)
            if rule.step(replica, Bring(samples=1, stop=told and step >= 3)).stop
        ]

    assert run_threads(thread_worlds(3), work) == [[4, 6]] * 3


def test_a_worker_that_leaves_early_is_told_of() -> None:
    def work(world: Any) -> str:
        rule, replica = make("streaming-diloco:period=8,fragments=2,delay=3", world)
        rule.start(replica)
        try:
            train(rule, replica, range(9 if world.rank else 20))
            rule.finish(replica)
        except UserError as error:
            return str(error)
        return "nothing"

    for message in run_threads(thread_worlds(3), work):
        assert message.startswith("2 of 3 workers ended their loop while others are at step")


def test_fewer_parameters_than_fragments_are_refused() -> None:
    def work(world: Any) -> str:
        rule, replica = make("streaming-diloco:period=60,fragments=50", world)
        with pytest.raises(UserError, match="use fragments=49 or fewer") as caught:
            rule.start(replica)
        return str(caught.value)

    assert "\n" not in run_threads(thread_worlds(2), work)[0]


def test_what_fails_in_the_background_is_told_where_it_is_waited_for() -> None:
    def work(world: Any) -> None:
        carrier = Background(open_exchange("shm", world))
        if world.rank:
            # A job that never comes: nobody waits for it for ever.
            world.timeout_seconds = -30.0
            with pytest.raises(LostWorkerError, match="the round of a fragment did not end"):
                carrier.end()
            return

        def fails(exchange: Any) -> int:
            raise LostWorkerError("worker 1 did not come")

        carrier.begin(fails)
        with pytest.raises(LostWorkerError, match="worker 1 did not come"):
            carrier.end()

    run_threads(thread_worlds(2), work)
