"""Asynchronous rules in the loop: each sample once an epoch, whoever takes it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pytest

from arignote.data.sharding import worker_batch
from arignote.trainer import parts as parts_module
from arignote.trainer.stopping import StopFlag
from arignote.trainer.torch_task import TorchTask

SMALL = {
    "run.model": "digits-mlp",
    # 203 samples: no multiple of any batch here, and a last global batch of 11.
    "run.data": "synthetic:1x8x8,10,train=203,validation=37",
    "train.epochs": 2,
    "schedule.name": "cosine",
    "schedule.warmup_epochs": 1.0,
    "schedule.scaling": "linear",
}
RULES = ("easgd:period=2", "asgd")


@dataclass(frozen=True)
class Part:
    """What a worker has trained on at once."""

    worker: int
    epoch: int
    consumed: int
    number: int
    indices: tuple[int, ...]
    rate: float


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """All parts that any worker of any run of the test trains on."""
    made: list[Part] = []
    drawn = threading.local()
    train = TorchTask.train

    def draw(*arguments: Any, **named: Any) -> Any:
        drawn.indices = worker_batch(*arguments, **named)
        return drawn.indices

    def spy(self: Any, epoch: int, consumed: int, part: int, recorder: Any) -> Any:
        bring = train(self, epoch, consumed, part, recorder)
        indices = tuple(drawn.indices.tolist())
        assert bring.samples == len(indices)
        made.append(Part(self.world.rank, epoch, consumed, part, indices, self.learning_rate))
        return bring

    monkeypatch.setattr(parts_module, "worker_batch", draw)
    monkeypatch.setattr(TorchTask, "train", spy)
    return made


def trained(parts: list[Part], epoch: int) -> list[int]:
    """The samples that were trained on in an epoch, sorted."""
    return sorted(chain(*(part.indices for part in parts if part.epoch == epoch)))


@pytest.mark.parametrize("hosts", [(), ("a", "b", "b", "a")], ids=["one-host", "hosts"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_every_sample_once_at_the_rate_of_its_step(
    train: Any, parts: list[Part], workers: int, rule: str, hosts: Any
) -> None:
    settings = SMALL | {"train.batch_size": 48 // workers}
    train(workers, settings, folder="bsp")
    rates = {(part.epoch, part.consumed): part.rate for part in parts}
    places = sorted((part.epoch, part.consumed, part.number, part.indices) for part in parts)
    parts.clear()
    run = train(workers, settings | {"run.rule": rule}, folder="run", hosts=hosts[:workers])
    assert trained(parts, 0) == trained(parts, 1) == list(range(203))
    assert all(part.rate == rates[part.epoch, part.consumed] for part in parts)
    assert len(set(rates.values())) > 5
    # The very parts of the steps that workers in step would make.
    assert places == sorted((p.epoch, p.consumed, p.number, p.indices) for p in parts)
    summary = run.summary
    assert (summary["status"], summary["steps"], summary["samples"]) == ("finished", 10, 406)
    own = [sum(part.worker == worker for part in parts) for worker in range(workers)]
    assert summary["worker_steps"] == own
    assert sum(own) == 10 * workers
    period = 2 if rule.startswith("easgd") else 1
    if workers > 1:
        way = "visits to worker 0 in fp32" if hosts else "a centre in shared memory"
        assert summary["exchange"] == way
        assert summary["exchanges"] == sum(steps // period for steps in own)
        assert 0 <= summary["notes"]["staleness"]["mean"] <= summary["notes"]["staleness"]["max"]
    else:
        assert summary["exchanges"] == 0
    events = [e for e in run.events if e["event"] == "validation"]
    assert [e["samples"] for e in events] == [37, 37]


@pytest.mark.parametrize("rule", RULES)
def test_one_worker_is_plain_sgd(train: Any, rule: str) -> None:
    plain = train(1, SMALL, folder="plain")
    alone = train(1, SMALL | {"run.rule": rule}, folder="alone")
    assert alone.sha == plain.sha
    assert alone.summary["metrics"] == plain.summary["metrics"]
    stopped = train(1, SMALL | {"run.rule": rule}, folder="stopped", stop_at=3)
    assert stopped.summary["steps"] == 3
    resumed = train(1, SMALL | {"run.rule": rule}, folder="stopped", resume=True)
    assert resumed.sha == plain.sha
    (event,) = [e for e in alone.events if e["event"] == "warning"]
    assert "with one worker is plain SGD" in event["message"]


@pytest.mark.parametrize("hosts", [(), ("a", "b", "b")], ids=["one-host", "hosts"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("resumed_by", [2, 3, 1])
def test_stopped_in_mid_epoch_and_resumed(
    train: Any, parts: list[Part], rule: str, resumed_by: int, hosts: Any
) -> None:
    settings = SMALL | {"train.batch_size": 8, "run.rule": rule, "schedule.scaling": "none"}
    stopped = train(3, settings, stop_at=2, hosts=hosts)
    assert stopped.summary["status"] == "stopped"
    steps = stopped.summary["steps"]
    # Whole steps, of 24 samples each.
    assert len(parts) == 3 * steps
    assert trained(parts, 0) == sorted(set(trained(parts, 0)))
    assert len(trained(parts, 0)) == min(24 * steps, 203)
    resumed = train(resumed_by, settings, resume=True, hosts=hosts[:resumed_by])
    assert resumed.summary["status"] == "finished"
    assert resumed.summary["samples"] == 406
    assert trained(parts, 0) == trained(parts, 1) == list(range(203))
    assert resumed.summary["metrics"]


@pytest.mark.parametrize("rule", RULES)
def test_from_one_worker_to_two_the_centre_is_its_weights(train: Any, rule: str) -> None:
    settings = SMALL | {"run.rule": rule, "train.epochs": 1}
    one = train(1, settings)
    # Nothing is left to do: what is validated and saved is the centre.
    two = train(2, settings, resume=True)
    assert two.sha == one.sha
    four = train(4, settings, resume=True)
    assert four.sha == one.sha


@pytest.mark.parametrize("rule", RULES)
def test_a_limit_of_steps_and_checkpoints_between(train: Any, parts: list[Part], rule: str) -> None:
    settings = SMALL | {
        "run.rule": rule,
        "train.batch_size": 16,
        "train.steps": 8,
        "checkpoint.every_steps": 3,
    }
    run = train(3, settings)
    assert run.summary["steps"] == 8
    assert len(parts) == 24
    # Step 5 is the last of the first epoch.
    saved = [e["step"] for e in run.events if e["event"] == "checkpoint"]
    assert saved == [3, 5, 6, 8]
    assert trained(parts, 0) == list(range(203))
    assert len(trained(parts, 1)) == len(set(trained(parts, 1))) == 144
    more = train(2, settings | {"train.steps": 0}, resume=True)
    assert more.summary["status"] == "finished"
    assert trained(parts, 1) == list(range(203))


def test_no_validation(train: Any) -> None:
    settings = SMALL | {"run.rule": "easgd", "train.validate_every_epochs": 0}
    run = train(2, settings)
    assert run.summary["metrics"] == {}
    assert not [e for e in run.events if e["event"] == "validation"]


@pytest.mark.parametrize("rule", RULES)
def test_a_slow_worker_makes_fewer_parts(
    train: Any, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    forward = TorchTask._forward_backward

    def slow(self: Any, batch: Any) -> float:
        time.sleep(0.1 if self.world.rank == 1 else 0.002)
        return forward(self, batch)

    monkeypatch.setattr(TorchTask, "_forward_backward", slow)
    settings = SMALL | {"run.rule": rule, "train.batch_size": 4, "train.epochs": 1}
    steps = train(3, settings).summary["worker_steps"]
    assert sum(steps) == 51
    assert steps[1] < min(steps[0], steps[2]) / 2


@pytest.fixture
def slow_validation(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Validation by one worker takes long; the ranks of those who have done it."""
    validate, alone_by = TorchTask.validate, []

    def slow(self: Any, recorder: Any, stopping: Any, *, alone: bool) -> None:
        if alone:
            alone_by.append(self.world.rank)
            deadline = time.monotonic() + 0.5
            while time.monotonic() < deadline and not stopping():
                time.sleep(0.01)
        validate(self, recorder, stopping, alone=alone)

    monkeypatch.setattr(TorchTask, "validate", slow)
    return alone_by


@pytest.mark.parametrize("hosts", [(), ("a", "b", "b")], ids=["one-host", "hosts"])
def test_others_go_on_while_worker_0_validates(
    train: Any, parts: list[Part], slow_validation: list[int], hosts: Any
) -> None:
    settings = SMALL | {"run.rule": "easgd", "train.epochs": 3}
    run = train(3, settings, hosts=hosts)
    # The last validation is shared.
    assert slow_validation == [0, 0]
    for epoch in range(3):
        assert trained(parts, epoch) == list(range(203))
    assert not [part for part in parts if part.worker == 0 and part.epoch > 0]
    validated = [e for e in run.events if e["event"] == "validation"]
    assert [e["samples"] for e in validated] == [37] * 3
    assert [e["step"] for e in validated][-1] == run.summary["steps"]


def test_another_is_told_to_stop_while_worker_0_validates(
    train: Any, parts: list[Part], slow_validation: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_to = StopFlag.add_to

    def told(self: Any, bring: Any) -> Any:
        # In the second epoch, which worker 0 comes to late.
        self.is_set |= bring.epochs_done >= 1
        return add_to(self, bring)

    monkeypatch.setattr(StopFlag, "add_to", told)
    settings = SMALL | {"run.rule": "easgd", "train.epochs": 4, "train.batch_size": 16}
    stopped = train(3, settings)
    assert stopped.summary["status"] == "stopped"
    assert 6 <= stopped.summary["steps"] <= 7
    assert slow_validation == [0]
    assert not [part for part in parts if part.worker == 0 and part.epoch]
    monkeypatch.setattr(StopFlag, "add_to", add_to)
    resumed = train(3, settings, resume=True)
    assert resumed.summary["status"] == "finished"
    for epoch in range(4):
        assert trained(parts, epoch) == list(range(203))


def test_worker_0_is_told_to_stop_while_it_validates(
    train: Any, parts: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    validate = TorchTask.validate
    flags: list[Any] = []

    def told(self: Any, recorder: Any, stopping: Any, *, alone: bool) -> None:
        if alone:
            flags[0].is_set = True
        validate(self, recorder, stopping, alone=alone)

    monkeypatch.setattr(TorchTask, "validate", told)
    make = StopFlag.__init__

    def noted(self: Any) -> None:
        make(self)
        flags.append(self)

    monkeypatch.setattr(StopFlag, "__init__", noted)
    settings = SMALL | {"run.rule": "asgd", "train.epochs": 40, "train.batch_size": 4}
    stopped = train(2, settings)
    assert stopped.summary["status"] == "stopped"
    # Within the epoch that the others were in, or just after it.
    assert stopped.summary["steps"] < 3 * 26
    monkeypatch.setattr(TorchTask, "validate", validate)
    resumed = train(2, settings | {"train.epochs": 3}, resume=True)
    assert resumed.summary["status"] == "finished"
    for epoch in range(3):
        assert trained(parts, epoch) == list(range(203))


@pytest.mark.parametrize(("before", "after"), [("bsp", "easgd"), ("easgd", "bsp"), ("bsp", "asgd")])
@pytest.mark.parametrize("workers", [2, 3])
def test_resume_with_another_rule(train: Any, before: str, after: str, workers: int) -> None:
    settings = SMALL | {"train.batch_size": 16}
    train(2, settings | {"run.rule": before}, stop_at=2)
    resumed = train(workers, settings | {"run.rule": after}, resume=True)
    assert resumed.summary["status"] == "finished"
    assert resumed.summary["samples"] == 406


def test_gossip_draws_from_the_seed_of_the_run(train: Any) -> None:
    draws = []
    for seed in (0, 1):
        settings = SMALL | {"run.rule": "gosgd", "run.seed": seed, "train.steps": 1}
        drawn = train(2, settings, folder=str(seed)).trainer.rule._random
        draws.append(drawn.random())
    assert draws[0] != draws[1]
