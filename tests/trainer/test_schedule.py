"""The learning rate against numbers worked by hand."""

from __future__ import annotations

import math

import pytest

from arignote.config.settings import Schedule
from arignote.trainer.schedule import curve, growth, learning_rate_factor, scale_factor


@pytest.mark.parametrize(("scaling", "expected"), [("none", 1.0), ("linear", 4.0), ("sqrt", 2.0)])
def test_scaling(scaling: str, expected: float) -> None:
    assert scale_factor(Schedule(scaling=scaling, reference_batch_size=64), 256) == expected  # type: ignore[arg-type]


def test_linear_warm_up() -> None:
    schedule = Schedule(warmup="linear", warmup_epochs=5.0)
    assert [growth(schedule, 8.0, e) for e in (0, 2.5, 5, 9)] == [1.0, 4.5, 8.0, 8.0]


def test_geometric_warm_up_is_theano_mpis() -> None:
    schedule = Schedule(warmup="geometric", warmup_epochs=5.0)
    rates = [growth(schedule, 8.0, e) for e in range(7)]
    # Theano-MPI multiplies by p ** (1/5) at the start of epochs 1 to 5.
    assert rates == pytest.approx([8 ** (e / 5) for e in range(6)] + [8.0])


def test_warm_up_from_zero() -> None:
    schedule = Schedule(warmup="from-zero", warmup_epochs=5.0)
    assert [growth(schedule, 8.0, e) for e in (0, 2.5, 5, 9)] == [0.0, 4.0, 8.0, 8.0]


def test_no_warm_up() -> None:
    assert growth(Schedule(), 8.0, 0.0) == 8.0


def test_a_smaller_rate_needs_no_warm_up() -> None:
    schedule = Schedule(warmup="geometric", warmup_epochs=5.0)
    assert [growth(schedule, 0.25, e) for e in (0, 2, 9)] == [0.25, 0.25, 0.25]


def test_step() -> None:
    schedule = Schedule(name="step", milestones=[20.0, 40.0, 60.0])
    factors = [curve(schedule, e, 70) for e in (0, 19.99, 20, 40, 69)]
    assert factors == pytest.approx([1, 1, 0.1, 0.01, 0.001])


def test_poly_and_cosine_and_constant() -> None:
    assert curve(Schedule(name="poly", power=0.5), 75, 100) == pytest.approx(0.5)
    assert curve(Schedule(name="cosine"), 25, 100) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert curve(Schedule(name="cosine"), 100, 100) == pytest.approx(0.0)
    assert curve(Schedule(), 99, 100) == 1.0


def test_a_horizon_beyond_the_run() -> None:
    # GoogLeNet's in Theano-MPI: the square root of what is left of 240 epochs, of which 90 are run.
    schedule = Schedule(name="poly", power=0.5, horizon_epochs=240.0)
    factors = [curve(schedule, e, 90) for e in (0, 60, 90)]
    assert factors == pytest.approx([1, math.sqrt(0.75), math.sqrt(0.625)])
    assert curve(Schedule(name="cosine", horizon_epochs=20.0), 10, 15) == pytest.approx(0.5)


def test_all_together() -> None:
    schedule = Schedule(
        name="poly",
        scaling="linear",
        reference_batch_size=32,
        warmup="linear",
        warmup_epochs=2.0,
    )
    factor = learning_rate_factor(schedule, epochs_done=1, epochs=10, global_batch_size=128)
    assert factor == pytest.approx((1 + 3 * 0.5) * 0.9)
