"""Post-local SGD: BSP until the learning rate drops, local SGD from then on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.errors import UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.array_replica import ArrayReplica
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule


def make(text: str, world: Any) -> tuple[Rule, TorchReplica]:
    name, options = parse_rule(text)
    exchange = open_exchange("shm", world)
    rule = RULES.load(name)(options, world, exchange, Recorder())
    module = nn.Linear(5, 1, bias=False, dtype=torch.float64)
    nn.init.ones_(module.weight)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.5)
    return rule, TorchReplica(module, optimizer, allocate=exchange.route.allocate)


def train(rule: Rule, replica: TorchReplica, rates: Sequence[float], start: int = 0) -> None:
    for step, rate in enumerate(rates, start):
        replica.optimizer.param_groups[0]["lr"] = rate
        noise = np.random.default_rng((rule.world.rank, step)).standard_normal(5)
        replica.gradients[0].copy_(replica.parameters[0] - torch.from_numpy(noise))
        rule.step(replica, Bring(samples=rule.world.rank + 1))


def rounds(text: str, rates: Sequence[float]) -> list[int]:
    """After which steps of one worker a round came."""
    rule, replica = make(text, SerialWorld())
    rule.start(replica)
    found = []
    for step, rate in enumerate(rates):
        before = rule.recorder.exchanges
        train(rule, replica, [rate], step)
        if rule.recorder.exchanges > before:
            found.append(step + 1)
    return found


def test_rounds_come_every_step_until_the_rate_has_dropped() -> None:
    rates = [0.1] * 4 + [0.05] * 8
    assert rounds("post-local:period=3", rates) == [1, 2, 3, 4, 6, 9, 12]


def test_a_warm_up_is_no_drop_and_a_small_one_is_none_either() -> None:
    assert rounds("post-local:period=4", [0.02, 0.06, 0.1, 0.06, 0.051]) == [1, 2, 3, 4, 5]
    assert rounds("post-local:period=4,drop=0.6", [0.1, 0.06, 0.1, 0.1, 0.1]) == [1, 4]


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_before_the_drop_it_is_bsp_and_after_it_local_sgd(workers: int) -> None:
    def work(world: Any) -> list[torch.Tensor]:
        ends = []
        for text in ("post-local:period=4", "bsp:scheme=weights"):
            rule, replica = make(text, world)
            rule.start(replica)
            train(rule, replica, [0.1] * 6)
            ends.append(replica.parameters[0].clone())
            if text.startswith("bsp"):
                local, fresh = make("local-sgd:period=4", world)
                local.start(fresh)
                fresh.parameters[0].copy_(replica.parameters[0])
                fresh.load_optimizer_state(replica.optimizer_state())
                local.steps = 6
                rule, replica = local, fresh
            train(rule, replica, [0.01] * 7, 6)
            ends.append(replica.parameters[0].clone())
        return ends

    for post_6, post_13, bsp_6, local_13 in run_threads(thread_worlds(workers), work):
        assert torch.equal(post_6, bsp_6)
        assert torch.equal(post_13, local_13)


def test_what_it_saw_of_the_rate_is_saved() -> None:
    rule, replica = make("post-local:period=4", SerialWorld())
    rule.start(replica)
    train(rule, replica, [0.1, 0.04])
    state = rule.state_dict()
    assert (state["highest"], state["dropped"]) == (0.1, True)
    again, fresh = make("post-local:period=4", SerialWorld())
    again.start(fresh)
    again.load_state_dict(state)
    train(again, fresh, [0.1], 2)
    assert again.recorder.exchanges == 0
    train(again, fresh, [0.1], 3)
    assert again.recorder.exchanges == 1


def test_a_rate_that_is_scaled_to_fewer_workers_is_no_drop() -> None:
    rule, replica = make("post-local:period=4", SerialWorld())
    rule.start(replica)
    train(rule, replica, [0.1])
    again, fresh = make("post-local:period=4", SerialWorld())
    again.start(fresh)
    again.merge_state_dicts([rule.state_dict()] * 2)
    train(again, fresh, [0.05], 1)
    assert again.recorder.exchanges == 1
    dropped = {**rule.state_dict(), "dropped": True}
    again.merge_state_dicts([dropped] * 2)
    train(again, fresh, [0.05], 1)
    assert again.recorder.exchanges == 1


def test_a_model_that_shows_no_learning_rate_is_refused() -> None:
    world = SerialWorld()
    exchange = open_exchange("shm", world)
    replica = ArrayReplica([np.ones(2)], allocate=exchange.route.allocate)
    name, options = parse_rule("post-local:period=7")
    rule = RULES.load(name)(options, world, exchange, Recorder())
    with pytest.raises(UserError, match=r"shows none: use --rule local-sgd:period=7$"):
        rule.start(replica)
