"""Where every second of a step went."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arignote.recorder.phases import PHASES, HostClock, Recorder


class Clock:
    """Time that passes when it is told to, in whole ticks: sums are exact."""

    def __init__(self):
        self.now = 1000

    def __call__(self):
        return float(self.now)


@given(st.lists(st.tuples(st.sampled_from(PHASES), st.integers(0, 1000))))
def test_the_phases_add_up_to_the_total(pieces):
    clock = Clock()
    recorder = Recorder(HostClock(clock))
    recorder.start()
    begun = clock.now
    for phase, ticks in pieces:
        clock.now += ticks
        recorder.end(phase)
    assert sum(recorder.seconds.values()) == clock.now - begun
    for phase in PHASES:
        assert recorder.seconds[phase] == sum(ticks for name, ticks in pieces if name == phase)


def test_what_came_before_a_start_belongs_to_none():
    clock = Clock()
    recorder = Recorder(HostClock(clock))
    clock.now += 50
    recorder.start()
    clock.now += 3
    recorder.end("wait")
    clock.now += 70
    recorder.start()
    clock.now += 4
    recorder.end("calc")
    clock.now += 5
    recorder.end("comm")
    assert recorder.seconds == {"calc": 4, "comm": 5, "sync": 0, "wait": 3}


def test_an_unknown_phase():
    with pytest.raises(KeyError):
        Recorder(HostClock(Clock())).end("lunch")


def test_the_real_clock_runs_forward():
    recorder = Recorder()
    recorder.start()
    recorder.end("calc")
    assert 0 <= recorder.seconds["calc"] < 60


def test_sums_of_training():
    recorder = Recorder(HostClock(Clock()))
    recorder.train_error(0, 2.0, 0.5, samples=4)
    recorder.train_error(1, 1.0, 0.25, samples=8)
    recorder.train_error(2, 3.0, 1.0)
    assert recorder.take_train_sums() == {"samples": 13, "loss": 19.0, "error": 5.0}
    assert recorder.take_train_sums() == {"samples": 0, "loss": 0, "error": 0}


def test_sums_of_validation():
    recorder = Recorder(HostClock(Clock()))
    recorder.val_error(0, 2.0, 0.5, 0.25, samples=4)
    recorder.val_error(1, 1.0, 0.0, 0.0, samples=6)
    expected = {"samples": 10, "loss": 14.0, "error": 2.0, "error_top5": 1.0}
    assert recorder.take_validation_sums() == expected
    assert recorder.take_validation_sums() == dict.fromkeys(expected, 0)


def test_training_and_validation_do_not_mix():
    recorder = Recorder(HostClock(Clock()))
    recorder.train_error(0, 2.0, 0.5, samples=4)
    assert recorder.take_validation_sums()["samples"] == 0
    assert recorder.take_train_sums()["samples"] == 4


def test_a_mean_over_nothing_is_nothing():
    recorder = Recorder(HostClock(Clock()))
    recorder.train_error(0, math.nan, math.nan, samples=0)
    recorder.train_error(1, 1.0, 1.0, samples=2)
    assert recorder.take_train_sums() == {"samples": 2, "loss": 2.0, "error": 2.0}


def test_a_loss_that_is_no_number_stays_seen():
    recorder = Recorder(HostClock(Clock()))
    recorder.train_error(0, math.nan, 0.0, samples=2)
    assert math.isnan(recorder.take_train_sums()["loss"])


def test_bytes():
    recorder = Recorder(HostClock(Clock()))
    recorder.sent(10)
    recorder.sent(2**40)
    assert recorder.wire_bytes == 10 + 2**40


def test_the_state_goes_around():
    clock = Clock()
    recorder = Recorder(HostClock(clock))
    clock.now += 7
    recorder.end("sync")
    recorder.steps, recorder.samples = 3, 96
    recorder.sent(5)
    recorder.train_error(0, 2.0, 0.5, samples=4)
    state = recorder.state_dict()
    other = Recorder(HostClock(clock))
    other.load_state_dict(state)
    assert other.state_dict() == state
    recorder.sent(1)
    recorder.end("calc")
    recorder.train_error(0, 2.0, 0.5, samples=4)
    clock.now += 1
    recorder.end("sync")
    # Neither side sees what the other does later.
    assert other.state_dict() == state
    assert (other.steps, other.samples, other.wire_bytes) == (3, 96, 5)
    assert other.seconds["sync"] == 7
    assert other.take_train_sums() == {"samples": 4, "loss": 8.0, "error": 2.0}


class SlowDevice:
    """A device that has got to the cuts before `there`."""

    def __init__(self) -> None:
        self.cuts, self.there = 0, 0

    def cut(self) -> int:
        self.cuts += 1
        return self.cuts

    def seconds(self, since: int, until: int, *, wait: bool) -> float | None:
        if wait:
            self.there = max(self.there, until)
        return 10.0**until if until <= self.there else None


def test_a_device_is_not_waited_for():
    device = SlowDevice()
    recorder = Recorder(device)
    recorder.start()
    recorder.end("calc")
    recorder.end("comm")
    assert sum(recorder.seconds.values()) == 0
    device.there = 3
    assert recorder.seconds["calc"] == 1e3
    assert recorder.seconds["comm"] == 0
    recorder.start()
    recorder.end("calc")
    device.there = 4
    assert recorder.seconds["comm"] == 1e4
    # Only what is saved is waited for: it must be whole.
    assert recorder.state_dict()["seconds"] == {
        "calc": 1e3 + 1e6,
        "comm": 1e4,
        "sync": 0,
        "wait": 0,
    }
    assert recorder.seconds["calc"] == 1e3 + 1e6
