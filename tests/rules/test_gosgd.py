"""gosgd: its sums under random schedules, what it resumes; and the letters of all such rules."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arignote.comm.base import World
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import LostWorkerError, UserError
from arignote.exchange.letters import OUT
from arignote.rules.gosgd import LEAST_WEIGHT, mixed_in
from arignote.rules.letters import keep_rest_, mix_, own_stream

sys.path.insert(0, str(Path(__file__).parent))
import letters_setup as setup

NOTHING = setup.NOTHING


def test_formulas() -> None:
    mine, theirs = np.array([1.0, 2.0]), np.array([5.0, 2.0])
    part, weight = mixed_in(0.25, 0.75)
    assert (part, weight) == (0.75, 1.0)
    mix_(mine, theirs, part)
    assert mine.tolist() == [0.25 * 1 + 0.75 * 5, 2.0]
    mine = np.array([1.0, 2.0])
    keep_rest_(mine, np.array([0.75, 2.5]))
    assert mine.tolist() == [1.25, 1.5]


def test_what_is_equal_stays_equal() -> None:
    values = np.random.default_rng(1).normal(size=1000).astype(np.float32)
    mine = values.copy()
    for part in np.random.default_rng(2).random(100):
        mix_(mine, values, np.float32(part))
    assert np.array_equal(mine, values)


def audited_run(
    patch: pytest.MonkeyPatch, workers: int, seed: int, exchange: str, tolerance: float
) -> int:
    """Look at the sums before every operation; how many letters were on their way at the save."""
    script, post = setup.Audited(seed), setup.Post(patch)
    everybody: list[Any] = [None] * workers
    saved: list[int] = []
    sums: list[Any] = []

    def audit() -> None:
        held = [(rule.weight, replica.parameters[0].numpy()) for rule, replica in everybody]
        flying = [(numbers[0], vectors[0]) for numbers, vectors in post.letters()]
        sums.append(sum(w * x for w, x in held + flying))
        assert abs(sum(w for w, _ in held + flying) - 1) < 1e-12
        assert abs(sums[-1] - sums[0]).max() < tolerance

    def work(world: World) -> None:
        rule = setup.make("gosgd:p=0.6", world, exchange)
        everybody[world.rank] = rule, setup.with_arrays(rule)
        world.meet([], "the beginning of the audit")
        if not script.audits:
            script.audits.append(audit)
        for step in range(3):
            rule.step(everybody[world.rank][1], NOTHING)
            if step == 1:
                saved.append(len(post.letters()))
                rule.state_dict()
        rule.finish(everybody[world.rank][1])

    run_threads(thread_worlds(workers, script=script), work)
    assert not post.letters()
    return max(saved)


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_sums_stay_at_every_operation_of_random_schedules(workers: int) -> None:
    flying = []
    for seed in range(200):
        with pytest.MonkeyPatch.context() as patch:
            flying.append(audited_run(patch, workers, seed, "asa", 1e-14))
    assert sum(count > 0 for count in flying) > 50


def test_sums_stay_where_a_codec_rounds() -> None:
    for seed in range(20):
        with pytest.MonkeyPatch.context() as patch:
            audited_run(patch, 3, seed, "asa:fp16", 1e-14)


def test_consensus_weighs_by_what_each_holds_and_is_undone() -> None:
    def work(world: World) -> tuple[Any, ...]:
        rule = setup.make("gosgd:p=1", world)
        replica = setup.with_arrays(rule)
        for _ in range(3):
            rule.step(replica, NOTHING)
        rule.drain("a test")
        own = replica.parameters[0].clone()
        with rule.consensus(replica):
            inside = replica.parameters[0].clone()
        assert torch.equal(own, replica.parameters[0])
        assert rule.recorder.notes["consensus_distance"].last > 0
        return rule.weight, own, inside

    for seed in range(5):
        found = run_threads(thread_worlds(3, script=setup.Audited(seed)), work)
        mean = sum(weight * own for weight, own, _ in found)
        assert all(torch.allclose(inside, mean, rtol=1e-12) for _, _, inside in found)


def test_resumed_run_equals_one_that_went_on(tmp_path: Path) -> None:
    flying = 0
    for seed in range(15):
        with pytest.MonkeyPatch.context() as patch:
            straight, resumed, saved = setup.resumed_and_not(
                "gosgd:p=0.6", 3, seed, tmp_path, setup.Post(patch)
            )
        flying += saved > 0
        assert straight == resumed
    assert flying > 5


def test_of_another_number_of_workers_all_begin_at_the_consensus() -> None:
    def work(world: World) -> tuple[float, float]:
        rule = setup.make("gosgd:p=1", world)
        setup.with_arrays(rule)
        state = {**rule.state_dict(), "steps": 7, "weight": 0.9}
        rule.merge_state_dicts([state] * 3)
        return rule.weight, rule._random.random()

    found = run_threads(thread_worlds(2), work)
    assert [weight for weight, _ in found] == [0.5, 0.5]
    assert found[0][1] != found[1][1]


def test_without_pushes_workers_are_alone() -> None:
    def work(world: World) -> Any:
        rule = setup.make("gosgd:p=0", world)
        replica = setup.with_regression(rule)
        for step in range(5):
            setup.train(rule, replica, step)
        assert (rule.recorder.exchanges, rule.recorder.wire_bytes) == (0, 0)
        own = replica.parameters[0].clone()
        rule.finish(replica)
        return own

    class Rank(SerialWorld):
        pass

    for rank, own in enumerate(run_threads(thread_worlds(3), work)):
        world = Rank()
        rule = setup.make("gosgd:p=0", world, "auto")
        replica = setup.with_regression(rule)
        world.rank = rank
        for step in range(5):
            setup.train(rule, replica, step)
        assert torch.equal(own, replica.parameters[0])


@pytest.mark.parametrize("rule", ["gosgd", "adpsgd", "sgp"])
def test_one_worker_is_told(rule: str) -> None:
    made = setup.make(rule, SerialWorld(), "auto")
    replica = setup.with_regression(made)
    setup.train(made, replica, 0)
    made.load_state_dict(made.state_dict())
    with made.consensus(replica):
        pass
    made.finish(replica)
    assert made.remarks == [
        f"{rule} with one worker is plain SGD: there is nobody to exchange with"
    ]


def test_streams_are_each_workers_own_and_nobody_elses() -> None:
    np.random.seed(5)
    torch.manual_seed(5)
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index,union-attr]

    def work(world: World) -> list[float]:
        rule = setup.make("gosgd:p=0.5", world)
        replica = setup.with_arrays(rule)
        first = rule._random.bit_generator.state
        for _ in range(5):
            rule.step(replica, NOTHING)
        rule.finish(replica)
        rule._random.bit_generator.state = first
        return [float(rule._random.random()) for _ in range(4)]

    drawn = run_threads(thread_worlds(4), work)
    assert len({number for numbers in drawn for number in numbers}) == 16
    after = np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index,union-attr]
    assert before[0] == after[0] and torch.equal(before[1], after[1])
    streams = own_stream(0, 3), own_stream(0, 3, steps=1), own_stream(0, 2), own_stream(1, 3)
    assert len({stream.random() for stream in streams}) == 4


@pytest.mark.parametrize("name", ["gosgd:p=1", "adpsgd"])
def test_nobody_asks_who_has_left(name: str) -> None:
    asked: list[int] = []
    for seed in range(10):
        with pytest.MonkeyPatch.context() as patch:
            post = setup.Post(patch)
            heard = [10**9] * 3

            def work(world: World, post: setup.Post = post, heard: list[int] = heard) -> None:
                rule = setup.make(name, world)
                replica = setup.with_arrays(rule)
                for _ in range(2):
                    rule.step(replica, NOTHING)
                while world.rank and 0 not in rule._box.gone:
                    rule.step(replica, NOTHING)
                heard[world.rank] = len(post.sent)
                for _ in range(6 * world.rank):
                    rule.step(replica, NOTHING)
                rule.finish(replica)

            run_threads(thread_worlds(3, script=setup.Audited(seed)), work)
        assert not post.letters()
        asked += [
            to
            for number, (source, to, is_answer) in enumerate(post.sent)
            if number >= heard[source] and not is_answer
        ]
    assert len(asked) > 10
    assert 0 not in asked


def test_last_worker_has_nobody_to_push_to() -> None:
    def work(world: World) -> int:
        rule = setup.make("gosgd:p=1", world)
        replica = setup.with_arrays(rule)
        while world.rank and not rule._box.gone:
            rule.step(replica, NOTHING)
        pushes = int(rule.recorder.exchanges)
        for _ in range(3 * world.rank):
            rule.step(replica, NOTHING)
        rule.finish(replica)
        assert rule.recorder.exchanges == pushes
        return pushes

    run_threads(thread_worlds(2, script=setup.Audited(3)), work)


def test_push_that_would_wait_is_not_begun() -> None:
    def work(world: World) -> None:
        rule = setup.make("gosgd:p=1", world)
        replica = setup.with_arrays(rule)
        if world.rank == 0:
            box, send = rule._box, rule._box.world.send
            requests = []

            def stuck(*arguments: Any) -> setup.Stuck:
                send(*arguments)
                requests.append(setup.Stuck())
                return requests[-1]

            box.world.send = stuck
            for _ in range(OUT + 3):
                rule.step(replica, NOTHING)
            assert len(requests) == OUT == rule.recorder.exchanges
            assert rule.weight == 0.5 / 2**OUT
            note = rule.recorder.notes["skipped_pushes"]
            assert (note.readings, note.total) == (OUT + 3, 3)
            requests[0].free = True
            rule.step(replica, NOTHING)
            assert len(requests) == OUT + 1
            for request in requests:
                request.free = True
            box.world.send = send
        world.meet([], "the end of the test")
        rule.finish(replica)

    run_threads(thread_worlds(2), work)


def test_least_weight_is_not_halved() -> None:
    def work(world: World) -> float:
        rule = setup.make("gosgd:p=1", world)
        replica = setup.with_arrays(rule)
        rule.weight = LEAST_WEIGHT / 2 if world.rank == 0 else 1.0
        if world.rank == 0:
            rule.step(replica, NOTHING)
            assert rule.recorder.exchanges == 0
        weight = float(rule.weight)
        rule.finish(replica)
        return weight

    assert run_threads(thread_worlds(2), work) == [LEAST_WEIGHT / 2, 1.0]


def test_memory_of_a_letter_on_its_way_does_not_change() -> None:
    def work(world: World) -> None:
        rule = setup.make("gosgd:p=1", world)
        replica = setup.with_arrays(rule)
        box = rule._box
        if world.rank == 0:
            wires: list[torch.Tensor] = []
            box.world.send = lambda wire, *_: wires.append(wire) or setup.Stuck()
            for _ in range(OUT):
                rule.step(replica, NOTHING)
            kept = [wire.clone() for wire in wires]
            replica.parameters[0].zero_()
            for _ in range(3):
                rule.step(replica, NOTHING)
            assert len({wire.data_ptr() for wire in wires}) == OUT
            assert all(torch.equal(a, b) for a, b in zip(wires, kept, strict=True))

    run_threads(thread_worlds(2), work)


def test_models_of_several_dtypes() -> None:
    def work(world: World) -> list[torch.Tensor]:
        rule = setup.make("gosgd:p=1", world)
        replica = setup.with_arrays(rule, torch.float32, torch.float64, torch.bfloat16)
        for _ in range(12):
            rule.step(replica, NOTHING)
        rule.finish(replica)
        return [vector.clone() for vector in replica.parameters]

    one, other = run_threads(thread_worlds(2, script=setup.Audited(1)), work)
    assert {vector.dtype for vector in one} == {torch.float32, torch.float64, torch.bfloat16}
    assert all(
        torch.allclose(a.double(), b.double(), atol=0.1) for a, b in zip(one, other, strict=True)
    )


def test_hosts_apart_have_a_thread_that_moves_letters() -> None:
    names: list[bool] = []

    def work(world: World) -> None:
        rule = setup.make("gosgd:p=1", world)
        replica = setup.with_arrays(rule)
        for _ in range(20):
            rule.step(replica, NOTHING)
        names.append(any(thread.name == "letters" for thread in threading.enumerate()))
        rule.finish(replica)

    run_threads(thread_worlds(2, hosts=["a", "b"]), work)
    assert names == [True, True]
    assert not any(thread.name == "letters" for thread in threading.enumerate())


def test_lost_letter_names_its_sender() -> None:
    def work(world: World) -> None:
        rule = setup.make("gosgd:p=0", world)
        setup.with_arrays(rule)
        if world.rank == 2:
            rule._box._sent[0] += 1
        if world.rank == 0:
            with pytest.raises(
                LostWorkerError,
                match=r"^worker 2 sent nothing for the taking in of letters before a checkpoint",
            ):
                rule.state_dict()
        else:
            rule.state_dict()

    run_threads(thread_worlds(3, timeout_seconds=0.3), work)


def test_lost_worker_is_named_where_all_meet() -> None:
    def work(world: World) -> None:
        rule = setup.make("gosgd:p=0", world)
        setup.with_arrays(rule)
        if world.rank != 1:
            with pytest.raises(LostWorkerError, match=r"^worker 1 did not come to the taking in"):
                rule.state_dict()

    run_threads(thread_worlds(3, timeout_seconds=0.2), work)


def test_a_worker_that_ends_its_loop_early_is_told_of() -> None:
    def work(world: World) -> None:
        rule = setup.make("gosgd:p=0.5", world)
        replica = setup.with_arrays(rule)
        match = "^1 of 3 workers ended their loop while others are at the taking in of letters"
        with pytest.raises(UserError, match=match):
            if world.rank:
                rule.state_dict()
            else:
                rule.finish(replica)

    run_threads(thread_worlds(3), work)
