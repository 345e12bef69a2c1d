"""sgp against push-sum in NumPy; its sums, its deadlines, and that to save changes nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import LostWorkerError, UserError
from arignote.rules.base import Bring
from arignote.rules.periodic import SIGNAL_STEPS
from arignote.rules.sgp import hop, stretch_

sys.path.insert(0, str(Path(__file__).parent))
import letters_setup as setup

NOTHING = setup.NOTHING
RATE = 0.1


def test_formulas() -> None:
    assert [hop(step, 2) for step in range(3)] == [1, 1, 1]
    assert [hop(step, 3) for step in range(4)] == [1, 2, 1, 2]
    assert [hop(step, 4) for step in range(4)] == [1, 2, 1, 2]
    assert [hop(step, 5) for step in range(4)] == [1, 2, 4, 1]
    assert [hop(step, 9) for step in range(5)] == [1, 2, 4, 8, 1]
    z, before = torch.tensor([1.0, 2.0]), torch.tensor([0.5, 2.5])
    stretch_(z, before, 0.5)
    assert z.tolist() == [1.5, 1.5]


@pytest.mark.parametrize("workers", range(2, 10))
def test_every_power_of_two_of_workers_has_the_mean_after_a_cycle(workers: int) -> None:
    mixed = np.eye(workers)
    for step in range((workers - 1).bit_length()):
        mixed = (mixed + np.roll(mixed, hop(step, workers), axis=0)) / 2
    assert np.allclose(mixed.sum(axis=0), 1)
    if workers & (workers - 1) == 0:
        assert np.allclose(mixed, 1 / workers)


def gradient(z: Any, rank: int, step: int) -> Any:
    return z - np.random.default_rng((rank, step)).normal(size=z.shape)


def push_sum(workers: int, tau: int, steps: int) -> tuple[Any, Any, Any]:
    """(z, w, the consensus) after so many steps, by matrices; x is kept here."""
    x, w = np.zeros((workers, 4)), np.ones(workers)
    sent: list[tuple[Any, Any]] = []
    for step in range(steps):
        for rank in range(workers):
            x[rank] -= RATE * gradient(x[rank] / w[rank], rank, step)
        x, w = x / 2, w / 2
        far = hop(step, workers)
        sent.append((np.roll(x, far, axis=0), np.roll(w, far)))
        if step >= tau:
            x, w = x + sent[step - tau][0], w + sent[step - tau][1]
    late = sent[max(0, steps - tau) :]
    total = x.sum(axis=0) + sum(letters.sum(axis=0) for letters, _ in late)
    assert w.sum() + sum(weights.sum() for _, weights in late) == pytest.approx(workers)
    return x / w[:, None], w, total / workers


@pytest.mark.parametrize("workers", [2, 3, 4, 5])
@pytest.mark.parametrize("tau", [0, 1, 3])
def test_against_push_sum(workers: int, tau: int) -> None:
    def work(world: World) -> tuple[Any, float, Any]:
        rule = setup.make(f"sgp:overlap={tau}", world)
        replica = setup.with_regression(rule)
        for group in replica.optimizer.param_groups:
            group.update(lr=RATE, momentum=0)
        for step in range(20):
            z = replica.parameters[0].numpy()
            replica.gradients[0].copy_(torch.from_numpy(gradient(z, world.rank, step)))
            rule.step(replica, Bring(samples=1))
        own = replica.parameters[0].clone().numpy()
        rule.finish(replica)
        with rule.consensus(replica):
            mean = replica.parameters[0].clone().numpy()
        assert np.array_equal(replica.parameters[0].numpy(), own)
        assert rule.recorder.exchanges == 20
        assert rule.recorder.wire_bytes == 20 * (64 + 64)
        return own, rule.weight, mean

    z, w, mean = push_sum(workers, tau, 20)
    if not tau:
        assert np.array_equal(w, np.ones(workers))
    for rank, (own, weight, consensus) in enumerate(run_threads(thread_worlds(workers), work)):
        assert weight == w[rank]
        assert np.allclose(own, z[rank], rtol=0, atol=1e-13)
        assert np.allclose(consensus, mean, rtol=0, atol=1e-13)


def audited_run(
    patch: pytest.MonkeyPatch, workers: int, seed: int, tau: int, exchange: str
) -> None:
    """Look at both sums before every operation."""
    script, post = setup.Audited(seed), setup.Post(patch)
    everybody: list[Any] = [None] * workers
    sums: list[Any] = []

    def audit() -> None:
        held = [(rule.weight, replica.parameters[0].numpy()) for rule, replica in everybody]
        late = [
            (flight.weight, flight.vectors[0])
            for rule, _ in everybody
            for flight in rule._flights
            if flight.incoming is None
        ]
        flying = [(numbers[0], vectors[0]) for numbers, vectors in post.letters()]
        sums.append(sum(w * x for w, x in held + late + flying))
        assert abs(sum(w for w, _ in held + late + flying) - workers) < 1e-12
        assert abs(sums[-1] - sums[0]).max() < 1e-13

    def work(world: World) -> None:
        rule = setup.make(f"sgp:overlap={tau}", world, exchange)
        everybody[world.rank] = rule, setup.with_arrays(rule)
        replica = everybody[world.rank][1]
        world.meet([], "the beginning of the audit")
        if not script.audits:
            script.audits.append(audit)
        for step in range(4):
            rule.step(replica, NOTHING)
            if step == 2:
                rule.state_dict()
        rule.finish(replica)

    run_threads(thread_worlds(workers, script=script), work)
    assert not post.letters()


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_sums_stay_at_every_operation_of_random_schedules(workers: int) -> None:
    for seed in range(200):
        with pytest.MonkeyPatch.context() as patch:
            audited_run(patch, workers, seed, seed % 4, "asa")


def test_sums_stay_where_a_codec_rounds() -> None:
    for seed in range(20):
        with pytest.MonkeyPatch.context() as patch:
            audited_run(patch, 3, seed, seed % 3, "asa:fp16")


def trained(spec: str, world: World, exchange: str, every: int, folder: Path | None) -> Any:
    """Train, look at the consensus and save every so many steps, and resume from a file."""
    rule = setup.make(spec, world, exchange)
    replica = setup.with_regression(rule)
    for step in range(20):
        setup.train(rule, replica, step)
        if every and step % every == 0:
            with rule.consensus(replica):
                pass
            rule.state_dict()
        if folder is not None and step == 12:
            rule, replica = setup.reload(spec, world, rule, replica, folder / str(world.rank))
    rule.finish(replica)
    with rule.consensus(replica):
        consensus = replica.parameters[0].tolist()
    return replica.parameters[0].tolist(), rule.weight, consensus


@pytest.mark.parametrize("tau", [0, 1, 3])
@pytest.mark.parametrize("exchange", ["asa", "asa:fp16"])
def test_run_that_saves_or_resumes_trains_bit_for_bit_alike(
    tau: int, exchange: str, tmp_path: Path
) -> None:
    runs = [
        run_threads(
            thread_worlds(3),
            lambda world, how=how: trained(f"sgp:overlap={tau}", world, exchange, *how),
        )
        for how in ((0, None), (1, None), (3, tmp_path))
    ]
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize("tau", [0, 2])
def test_quadratic_reaches_its_optimum(workers: int, tau: int) -> None:
    def work(world: World) -> torch.Tensor:
        rule = setup.make(f"sgp:overlap={tau}", world)
        replica = setup.with_regression(rule)
        for step in range(100):
            setup.train(rule, replica, step)
        rule.finish(replica)
        with rule.consensus(replica):
            return replica.parameters[0].clone()

    for vector in run_threads(thread_worlds(workers), work):
        wanted = torch.tensor([1.0, -2.0, 0.5, 0.25], dtype=torch.float64)
        assert torch.allclose(vector, wanted, atol=1e-3)


def test_another_overlap_takes_over_what_was_late(tmp_path: Path) -> None:
    def work(world: World) -> float:
        rule = setup.make("sgp:overlap=3", world)
        replica = setup.with_regression(rule)
        for step in range(6):
            setup.train(rule, replica, step)
        rule, replica = setup.reload("sgp", world, rule, replica, tmp_path / str(world.rank))
        setup.train(rule, replica, 6)
        assert not rule._flights
        return float(rule.weight)

    assert sum(run_threads(thread_worlds(3), work)) == pytest.approx(3)


def test_of_another_number_of_workers_all_begin_at_the_consensus() -> None:
    def work(world: World) -> float:
        rule = setup.make("sgp:overlap=1", world)
        replica = setup.with_regression(rule)
        setup.train(rule, replica, 0)
        rule.merge_state_dicts([rule.state_dict()] * 3)
        assert not rule._flights
        return float(rule.weight)

    assert run_threads(thread_worlds(2), work) == [1.0, 1.0]


def test_wish_to_stop_reaches_all_at_the_same_step() -> None:
    def work(world: World) -> list[int]:
        rule = setup.make("sgp:overlap=2", world)
        replica = setup.with_arrays(rule)
        stops = []
        for step in range(4 * SIGNAL_STEPS):
            wish = world.rank == 1 and SIGNAL_STEPS <= step < 2 * SIGNAL_STEPS
            if rule.step(replica, Bring(samples=0, stop=wish)).stop:
                stops.append(step + 1)
        rule.finish(replica)
        return stops

    assert run_threads(thread_worlds(3), work) == [[3 * SIGNAL_STEPS]] * 3


def test_there_is_no_round() -> None:
    def work(world: World) -> None:
        rule = setup.make("sgp", world)
        replica = setup.with_arrays(rule)
        assert not rule.is_due(replica)
        with pytest.raises(NotImplementedError):
            rule.round(replica, None)

    run_threads(thread_worlds(2), work)


def test_who_does_not_come_is_named() -> None:
    def work(world: World) -> None:
        rule = setup.make("sgp", world)
        replica = setup.with_arrays(rule)
        if world.rank == 1:
            with pytest.raises(
                LostWorkerError,
                match=r"^worker 0 .* sent no letter for step 1 within 0\.2 s; look at that worker",
            ):
                rule.step(replica, NOTHING)

    run_threads(thread_worlds(2, timeout_seconds=0.2), work)


def test_who_ends_its_loop_early_is_named_at_once() -> None:
    def work(world: World) -> None:
        rule = setup.make("sgp", world)
        replica = setup.with_arrays(rule)
        for _ in range(2):
            rule.step(replica, NOTHING)
        if world.rank == 0:
            with pytest.raises(LostWorkerError):
                rule.finish(replica)
        else:
            with pytest.raises(UserError, match=r"^worker 0 .* ended its loop .* at step 3: give"):
                rule.step(replica, NOTHING)

    run_threads(thread_worlds(2, timeout_seconds=1), work)


def test_letters_that_nobody_takes_are_waited_for() -> None:
    def work(world: World) -> None:
        rule = setup.make("sgp", world)
        replica = setup.with_arrays(rule)
        if world.rank == 0:
            send = rule._box.world.send
            rule._box.world.send = lambda *arguments: send(*arguments) and setup.Stuck()
        rule.step(replica, NOTHING)
        rule.step(replica, NOTHING)
        if world.rank == 0:
            with pytest.raises(LostWorkerError, match="the letter of step 3"):
                rule.step(replica, NOTHING)

    run_threads(thread_worlds(2, timeout_seconds=0.2), work)
