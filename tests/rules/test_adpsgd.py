"""adpsgd: what two workers come to, the sum under random schedules, what it resumes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.rules.adpsgd import add_, half_difference_

sys.path.insert(0, str(Path(__file__).parent))
import letters_setup as setup

NOTHING = setup.NOTHING


def test_formulas() -> None:
    theirs, mine = np.array([1.0, 2.0]), np.array([5.0, 2.0])
    half_difference_(theirs, mine, 0.5)
    assert theirs.tolist() == [-2.0, 0.0]
    add_(mine, theirs, -1.0)
    assert mine.tolist() == [7.0, 2.0]


def test_asked_and_asker_end_at_the_mean() -> None:
    def work(world: World) -> tuple[Any, Any]:
        rule = setup.make("adpsgd:period=2", world)
        replica = setup.with_arrays(rule)
        before = replica.parameters[0].clone()
        if world.rank == 0:
            # The second step asks.
            for turn in range(2):
                assert rule.asked is None, turn
                rule.step(replica, NOTHING)
            assert rule.asked == 1
        world.meet([], "the request is there")
        if world.rank == 1:
            rule.step(replica, NOTHING)
        world.meet([], "the answer is there")
        if world.rank == 0:
            rule.step(replica, NOTHING)
            assert (rule.asked, rule.recorder.exchanges) == (None, 1)
            assert rule.recorder.notes["staleness"].last == 1
        return before, replica.parameters[0].clone()

    (one, a), (other, b) = run_threads(thread_worlds(2), work)
    assert torch.allclose(a, (one + other) / 2) and torch.allclose(b, (one + other) / 2)


def test_two_who_ask_each_other_meet_and_do_not_swap() -> None:
    def work(world: World) -> tuple[Any, Any]:
        rule = setup.make("adpsgd", world)
        replica = setup.with_arrays(rule)
        before = replica.parameters[0].clone()
        for turn in range(3):
            if turn < 1 or world.rank == 1 or turn == 2:
                rule.step(replica, NOTHING)
            if turn == 0:
                assert rule.asked == 1 - world.rank
            world.meet([], "a turn")
        return before, replica.parameters[0].clone()

    (one, a), (other, b) = run_threads(thread_worlds(2), work)
    assert torch.allclose(a, (one + other) / 2) and torch.allclose(b, (one + other) / 2)


def audited_run(
    patch: pytest.MonkeyPatch, workers: int, seed: int, exchange: str
) -> tuple[int, int]:
    """Look at the sum before every operation.

    Returns:
        How many letters were on their way at the save; how many requests crossed others.
    """
    script, post = setup.Audited(seed), setup.Post(patch)
    everybody: list[Any] = [None] * workers
    saved, sums = [], []

    def audit() -> None:
        held = [replica.parameters[0].numpy() for _, replica in everybody]
        # What the one that was asked has moved by, and the one that asked has not yet.
        flying = [-vectors[0] for numbers, vectors in post.letters() if numbers[0] == setup.ANSWER]
        sums.append(sum(held + flying))
        assert abs(sums[-1] - sums[0]).max() < 1e-13

    def work(world: World) -> None:
        rule = setup.make("adpsgd", world, exchange)
        everybody[world.rank] = rule, setup.with_arrays(rule)
        replica = everybody[world.rank][1]
        world.meet([], "the beginning of the audit")
        if not script.audits:
            script.audits.append(audit)
        for step in range(3):
            rule.step(replica, NOTHING)
            if step == 1:
                saved.append(len(post.letters()))
                rule.state_dict()
                assert rule.asked is None
        rule.finish(replica)
        assert rule.asked is None

    run_threads(thread_worlds(workers, script=script), work)
    assert not post.letters()
    answers = sum(is_answer for *_, is_answer in post.sent)
    return max(saved), len(post.sent) - 2 * answers


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_sum_stays_at_every_operation_of_random_schedules(workers: int) -> None:
    found = []
    for seed in range(200):
        with pytest.MonkeyPatch.context() as patch:
            found.append(audited_run(patch, workers, seed, "asa"))
    assert sum(flying > 0 for flying, _ in found) > 50
    assert sum(crossed > 0 for _, crossed in found) > 10


def test_sum_stays_where_a_codec_rounds() -> None:
    for seed in range(20):
        with pytest.MonkeyPatch.context() as patch:
            audited_run(patch, 3, seed, "asa:fp16")


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_come_together(workers: int) -> None:
    def work(world: World) -> Any:
        rule = setup.make("adpsgd", world)
        replica = setup.with_arrays(rule)
        for _ in range(60):
            rule.step(replica, NOTHING)
        rule.finish(replica)
        return replica.parameters[0].numpy().copy()

    starts = [np.random.default_rng(rank).normal(size=5) for rank in range(workers)]
    for seed in range(5):
        ends = run_threads(thread_worlds(workers, script=setup.Audited(seed)), work)
        assert np.allclose(np.mean(ends, axis=0), np.mean(starts, axis=0), atol=1e-14)
        assert np.std(ends, axis=0).max() < 0.01 * np.std(starts, axis=0).min()


def test_consensus_is_the_plain_mean() -> None:
    def work(world: World) -> tuple[Any, Any]:
        rule = setup.make("adpsgd:period=100", world)
        replica = setup.with_arrays(rule)
        own = replica.parameters[0].clone()
        with rule.consensus(replica):
            inside = replica.parameters[0].clone()
        assert torch.equal(replica.parameters[0], own)
        return own, inside

    found = run_threads(thread_worlds(3), work)
    mean = sum(own for own, _ in found) / 3
    assert all(torch.allclose(inside, mean, rtol=1e-12) for _, inside in found)


def test_resumed_run_equals_one_that_went_on(tmp_path: Path) -> None:
    flying = 0
    for seed in range(15):
        with pytest.MonkeyPatch.context() as patch:
            straight, resumed, saved = setup.resumed_and_not(
                "adpsgd", 3, seed, tmp_path, setup.Post(patch)
            )
        flying += saved > 0
        assert straight == resumed
    assert flying > 5


def test_one_request_at_a_time() -> None:
    def work(world: World) -> None:
        rule = setup.make("adpsgd", world)
        replica = setup.with_arrays(rule)
        if world.rank == 0:
            for _ in range(5):
                rule.step(replica, NOTHING)
            note = rule.recorder.notes["skipped_pushes"]
            assert (note.readings, note.total) == (5, 4)
            assert rule.recorder.wire_bytes == rule._box.format.bytes
        world.meet([], "the end of the test")
        rule.finish(replica)

    run_threads(thread_worlds(2), work)


def test_answers_on_their_way_hold_up_further_ones() -> None:
    def work(world: World) -> None:
        rule = setup.make("adpsgd:period=2", world)
        replica = setup.with_arrays(rule)
        box = rule._box
        rule.pick = lambda _: 0 if world.rank else None
        if world.rank:
            rule.step(replica, NOTHING)
            rule.step(replica, NOTHING)
        world.meet([], "all have asked worker 0")
        if world.rank == 0:
            send, requests = box.world.send, []

            def stuck(*arguments: Any) -> setup.Stuck:
                send(*arguments)
                requests.append(setup.Stuck())
                return requests[-1]

            box.world.send = stuck
            rule.step(replica, NOTHING)
            assert len(requests) == 2
            for request in requests:
                request.free = True
            box.world.send = send
            rule.step(replica, NOTHING)
            assert sum(box._sent) == 3
        world.meet([], "the end of the test")
        rule.finish(replica)

    run_threads(thread_worlds(4), work)
