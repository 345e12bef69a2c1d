"""What every rule in the registry must do, over worlds of threads."""

from __future__ import annotations

import copy
import gc
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from arignote.comm.base import World
from arignote.comm.crew import Crew, form_crew
from arignote.comm.script import Script
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import restart_script, run_threads, thread_worlds
from arignote.config.rule_options import OPTIONS, TWO_LEVEL, parse_rule
from arignote.errors import NotANumberError, UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule
from arignote.rules.periodic import SIGNAL_STEPS
from arignote.rules.visitor import serve

ALWAYS = [
    "bsp:scheme=gradient",
    "bsp:scheme=weights",
    "bsp:sharded=on",
    "bsp:sharded=off",
    "bsp:overlap=on",
]
"""All workers exchange at every step, and know of each other at each."""
PERIODIC = [
    "easgd-sync:period=2",
    "local-sgd:period=3",
    "local-sgd:period=20",
    "post-local:period=3",
    "slowmo:period=3,beta=0.3",
    "diloco:period=3,outer_momentum=0.3",
    "diloco:period=20,outer_learning_rate=1,outer_momentum=0",
    "streaming-diloco:period=4,fragments=2,delay=0,outer_momentum=0.3",
    "streaming-diloco:period=5,fragments=3,delay=2,outer_momentum=0.3",
    "swap:period=3",
    "bsp/diloco:period=3,outer_momentum=0.3",
    "local-sgd:period=2/slowmo:period=4,beta=0.3",
]
"""All workers make the same steps, and meet now and then."""
NEIGHBOURS = ["sgp", "sgp:overlap=2"]
"""All workers make the same steps, and wait for some others."""
ASYNCHRONOUS = [
    "easgd:period=2",
    "easgd:period=3,momentum=0.3,alpha=0.3",
    "asgd",
    "asgd:period=2,staleness=divide",
    "asgd:compensation=constant",
    "asgd:compensation=adaptive",
    "gosgd:p=0.5",
    "adpsgd:period=2",
]
"""Nobody waits for anybody."""
VARIANTS = [*ALWAYS, *PERIODIC, *NEIGHBOURS, *ASYNCHRONOUS]
"""Every rule, in each of its forms."""
ALONE_IS_MORE = (
    "easgd-sync",
    "slowmo",
    "diloco",
    "streaming-diloco",
    "bsp/diloco",
    "local-sgd:period=2/slowmo",
)
"""Their rounds do something to one worker too; see their own tests."""
SCRIPTED = [v for v in VARIANTS if "overlap=on" not in v and "delay=2" not in v]
"""Without a thread of their own, which no script plays."""


def test_no_rule_is_forgotten() -> None:
    assert {parse_rule(variant)[0] for variant in VARIANTS} == {e.name for e in RULES}
    assert set(OPTIONS) == {entry.name for entry in RULES}
    for variant in VARIANTS:
        assert parse_rule(variant)[1].asynchronous == (variant in ASYNCHRONOUS)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("workers", [1, 2])
def test_the_way_that_is_shown_is_the_one_that_is_taken(variant: str, workers: int) -> None:
    def work(world: Any) -> tuple[str, str]:
        rule, _ = make(variant, world)
        return rule.way, rule.exchange.name

    worlds: list[Any] = thread_worlds(2) if workers > 1 else [SerialWorld()]
    way, exchange = run_threads(worlds, work)[0]
    if workers > 1 and variant.startswith(("gosgd", "adpsgd", "sgp")):
        assert way == "letters in fp32"
    elif workers > 1 and variant.startswith(("easgd:", "asgd")):
        assert way == "a centre in shared memory"
    else:
        assert way == exchange


def make(
    variant: str, whole: World | Crew, dtype: torch.dtype = torch.float64
) -> tuple[Rule, TorchReplica]:
    """A rule and a small linear model, whose start differs between workers."""
    crew = whole if isinstance(whole, Crew) else form_crew(whole, 0)
    world = crew.workers
    name, options = parse_rule(variant)
    # Not auto: it measures, which a script must not depend on.
    exchange = open_exchange("asa" if variant in ALWAYS[:2] else "shm", world)
    rule: Rule = RULES.load(name)(options, world, exchange, Recorder(), crew=crew)
    module = nn.Linear(3, 1, dtype=dtype)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(world.rank)
        module.weight.copy_(torch.randn(1, 3, generator=generator, dtype=dtype))
        module.bias.zero_()
    momentum = 0.0 if "momentum=0.3,alpha" in variant else 0.5
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=momentum)
    return rule, TorchReplica(module, optimizer, allocate=exchange.route.allocate)


def data(rank: int, step: int, samples: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * rank + step)
    inputs = torch.randn(samples, 3, generator=generator, dtype=torch.float64)
    return inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=torch.float64) + 0.25


def backward(replica: TorchReplica, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    replica.zero_grad()
    loss = (replica.module(inputs) - targets).square().mean()
    loss.backward()
    return float(loss.detach())


def train(rule: Rule, replica: TorchReplica, rank: int, steps: range) -> None:
    for step in steps:
        loss = backward(replica, *data(rank, step))
        rule.step(replica, Bring(samples=4, loss=loss))
        let_others_run(rule.world)


def let_others_run(world: World) -> None:
    """In a script a worker goes on until it does something with the world."""
    if world.size > 1:
        world.probe(999)


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """What was there before these tests: to collect it again and again took a third of them."""
    # torch imports its compiler with the first optimizer, and that is most of all objects.
    torch.optim.SGD([torch.zeros(1)], lr=0.1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def collected(frozen: None) -> Iterator[None]:
    """Modules and their hooks are circles: what they hold of shared memory goes with them."""
    yield
    gc.collect()


def scripted(workers: int, seed: int, work: Callable[[World], Any]) -> list[Any]:
    return run_threads(thread_worlds(workers, script=Script(seed)), work)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if not v.startswith(ALONE_IS_MORE)])
def test_one_worker_is_plain_sgd_bit_for_bit(variant: str) -> None:
    rule, replica = make(variant, SerialWorld())
    twin = nn.Linear(3, 1, dtype=torch.float64)
    twin.load_state_dict(replica.module.state_dict())
    momentum = {"lr": 0.1, "momentum": 0.5}
    if "momentum=0.3,alpha" in variant:
        momentum = {"lr": 0.1, "momentum": 0.3, "nesterov": True}
    optimizer = torch.optim.SGD(twin.parameters(), **momentum)  # type: ignore[arg-type]
    rule.start(replica)
    assert bool(rule.remarks) == (variant in [*ASYNCHRONOUS, *NEIGHBOURS])
    for step in range(10):
        inputs, targets = data(0, step)
        loss = backward(replica, inputs, targets)
        rule.step(replica, Bring(samples=4, loss=loss))
        optimizer.zero_grad()
        (twin(inputs) - targets).square().mean().backward()
        optimizer.step()
    rule.finish(replica)
    if "nesterov" in momentum:
        # The same step in another order: v there is -v/eta.
        assert torch.allclose(replica.module.weight, twin.weight, rtol=1e-12)
    else:
        assert torch.equal(replica.module.weight, twin.weight)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_quadratic_reaches_its_optimum(variant: str, workers: int) -> None:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(variant, world)
        rule.start(replica)
        # The slowest has come to within 2e-5 by then.
        train(rule, replica, world.rank, range(100))
        rule.finish(replica)
        with rule.consensus(replica):
            return replica.parameters[0].clone()

    worlds = thread_worlds(workers)
    results = scripted(workers, 1, work) if variant in SCRIPTED else run_threads(worlds, work)
    for vector in results:
        wanted = torch.tensor([1.0, -2.0, 0.5, 0.25], dtype=torch.float64)
        assert torch.allclose(vector, wanted, atol=1e-3)


@pytest.mark.parametrize(
    "variant", [v for v in [*ALWAYS, *PERIODIC, *NEIGHBOURS] if v != "swap:period=3"]
)
def test_workers_agree_on_what_none_of_them_would_find_alone(variant: str) -> None:
    def work(world: Any) -> float:
        return pulled_apart(variant, world, 200)

    worlds = thread_worlds(3)
    results = scripted(3, 1, work) if variant in SCRIPTED else run_threads(worlds, work)
    near = 0.5 if variant in NEIGHBOURS else 1e-3
    assert results == pytest.approx([10.0] * 3, abs=near)
    assert max(results) - min(results) < 1e-6


@pytest.mark.parametrize("variant", ASYNCHRONOUS)
def test_workers_that_nobody_waits_for_agree_on_something_between(variant: str) -> None:
    # Who is last pulls the others towards its own optimum, so only the mean over orders is known.
    def work(world: Any) -> float:
        return pulled_apart(variant, world, 60)

    found = []
    for seed in range(12):
        results = scripted(3, seed, work)
        assert max(results) - min(results) < 1e-6
        assert 0.1 < results[0] < 19.9
        found.append(results[0])
    assert sum(found) / len(found) == pytest.approx(10, abs=4)


def pulled_apart(variant: str, world: World, steps: int) -> float:
    """Each worker's own optimum is x = 10 * rank; that of all is their mean, 10 of three."""
    rule, replica = make(variant, world)
    rule.start(replica)
    for _ in range(steps):
        replica.gradients[0].copy_(0.5 * (replica.parameters[0] - 10.0 * world.rank))
        rule.step(replica, Bring(samples=1))
        let_others_run(world)
    with rule.consensus(replica):
        found = float(replica.parameters[0].mean())
    rule.finish(replica)
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_start_gives_everyone_the_weights_of_rank_0(variant: str) -> None:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(variant, world)
        rule.start(replica)
        start = replica.parameters[0].clone()
        rule.finish(replica)
        return start

    first, *others = run_threads(thread_worlds(3), work)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ASYNCHRONOUS])
def test_a_wish_to_stop_reaches_everyone_at_the_same_step(variant: str) -> None:
    def work(world: Any) -> list[int]:
        rule, replica = make(variant, world)
        rule.start(replica)
        stops = []
        for step in range(60):
            backward(replica, *data(world.rank, step))
            bring = Bring(samples=4, stop=world.rank == 1 and step >= 2)
            if rule.step(replica, bring).stop:
                stops.append(step)
        rule.finish(replica)
        return stops

    results = run_threads(thread_worlds(3), work)
    assert results == [results[0]] * 3
    first = results[0][0]
    assert first == 2 if variant in ALWAYS else 2 <= first <= 2 + 2 * SIGNAL_STEPS


@pytest.mark.parametrize("variant", VARIANTS)
def test_not_a_number_names_worker_and_step_and_changes_nothing(variant: str) -> None:
    def work(world: Any) -> tuple[bool, str]:
        rule, replica = make(variant, world)
        rule.start(replica)
        for step in range(2):
            backward(replica, *data(world.rank, step))
            rule.step(replica, Bring(samples=4, loss=0.5))
        before = replica.parameters[0].clone()
        if not variant.startswith("bsp") and world.rank != 2:
            return True, ""
        backward(replica, *data(world.rank, 2))
        loss = float("nan") if world.rank == 2 else 0.5
        with pytest.raises(NotANumberError) as caught:
            rule.step(replica, Bring(samples=4, loss=loss))
        return torch.equal(before, replica.parameters[0]), str(caught.value)

    for unchanged, message in run_threads(thread_worlds(3), work):
        assert unchanged
        if message or variant.startswith("bsp"):
            assert message.startswith("the loss of worker 2 is not a number at step 3:")


@pytest.mark.parametrize("variant", VARIANTS)
def test_not_a_number_may_go_on(variant: str) -> None:
    rule, replica = make(variant, SerialWorld())
    rule.stop_on_nan = False
    rule.start(replica)
    backward(replica, *data(0, 0))
    assert rule.step(replica, Bring(samples=4, loss=float("nan"))).samples == 4


@pytest.mark.parametrize("variant", ALWAYS)
def test_a_worker_that_ends_its_loop_early_is_told_of(variant: str) -> None:
    for message in leave_early(variant):
        assert message.startswith(
            "1 of 3 workers ended their loop while others are at step 3: give every worker the "
            "same number of batches"
        )


@pytest.mark.parametrize("variant", PERIODIC)
def test_a_worker_that_ends_early_is_told_of_at_the_next_meeting(variant: str) -> None:
    for message in leave_early(variant, more=40):
        assert "of 3 workers ended their loop while others are at step" in message


def leave_early(variant: str, more: int = 1) -> list[str]:
    def work(world: Any) -> str:
        rule, replica = make(variant, world)
        rule.start(replica)
        try:
            for step in range(2 if world.rank == 0 else 2 + more):
                backward(replica, *data(world.rank, step))
                rule.step(replica, Bring(samples=4))
            rule.finish(replica)
        except UserError as error:
            return str(error)
        return "nothing"

    return run_threads(thread_worlds(3), work)


@pytest.mark.parametrize("variant", ASYNCHRONOUS)
def test_workers_of_an_asynchronous_rule_may_make_any_number_of_steps(variant: str) -> None:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(variant, world)
        rule.start(replica)
        train(rule, replica, world.rank, range(3 + 10 * world.rank))
        rule.finish(replica)
        with rule.consensus(replica):
            return replica.parameters[0].clone()

    for seed in range(10):
        vectors = scripted(3, seed, work)
        assert all(torch.equal(vector, vectors[0]) for vector in vectors)


def save_and_go_on(variant: str, workers: int, script: Script | None, resumed: bool) -> Any:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(variant, world)
        rule.start(replica)
        train(rule, replica, world.rank, range(7))
        kept = (rule.state_dict(), replica.optimizer_state(), replica.named_tensors())
        own = [vector.clone() for vector in replica.parameters]
        if resumed:
            rule, replica = resume(variant, world, rule, replica, kept, own)
        if script is not None:
            restart_script(world, 99)
        train(rule, replica, world.rank, range(7, 16))
        vector = replica.parameters[0].clone()
        rule.finish(replica)
        return vector

    return run_threads(thread_worlds(workers, script=script), work)


def resume(
    variant: str, world: World, old: Rule, replica: TorchReplica, kept: Any, own: Any
) -> tuple[Rule, TorchReplica]:
    """Another rule and replica, which go on from what the old ones were."""
    state, optimizer, tensors = copy.deepcopy(kept)
    old.finish(replica)
    rule, fresh = make(variant, world)
    rule.start(fresh)
    fresh.load_named_tensors(tensors)
    fresh.load_optimizer_state(optimizer)
    rule.load_state_dict(state)
    for vector, saved in zip(fresh.parameters, own, strict=True):
        vector.copy_(saved)
    return rule, fresh


@pytest.mark.parametrize("variant", VARIANTS)
def test_save_and_resume_equals_going_on(variant: str) -> None:
    for seed in range(8 if variant in ASYNCHRONOUS else 1):
        ends = []
        for resumed in (False, True):
            script = Script(seed) if variant in SCRIPTED else None
            ends.append(save_and_go_on(variant, 3, script, resumed))
        for straight, again in zip(*ends, strict=True):
            assert torch.equal(straight, again)


@pytest.mark.parametrize("variant", SCRIPTED)
def test_the_same_order_gives_the_same_bits(variant: str) -> None:
    def work(world: Any) -> torch.Tensor:
        rule, replica = make(variant, world)
        rule.start(replica)
        train(rule, replica, world.rank, range(9))
        vector = replica.parameters[0].clone()
        rule.finish(replica)
        return vector

    first, again = (scripted(3, 5, work) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    if variant in ASYNCHRONOUS:
        others = [scripted(3, seed, work) for seed in range(6, 12)]
        assert any(not torch.equal(first[0], other[0]) for other in others)


@pytest.mark.parametrize("variant", SCRIPTED)
def test_no_order_of_messages_stops_the_workers(variant: str) -> None:
    # The asynchronous forms together play 1,000 orders.
    def work(world: Any) -> float:
        rule, replica = make(variant, world)
        rule.start(replica)
        steps = 4 + (world.rank if variant in ASYNCHRONOUS else 0)
        for step in range(steps):
            replica.gradients[0].fill_(0.01 * (step + world.rank))
            rule.step(replica, Bring(samples=1))
            let_others_run(world)
            if step == 2:
                rule.state_dict()
        with rule.consensus(replica):
            found = float(replica.parameters[0].sum())
        rule.finish(replica)
        return found

    for seed in range(125 if variant in ASYNCHRONOUS else 30):
        results = scripted(2 + seed % 3, seed, work)
        if seed % 25 == 0:
            gc.collect()
        assert all(math.isfinite(value) for value in results)
        assert variant.startswith("swap") or results == pytest.approx([results[0]] * len(results))


@pytest.mark.parametrize("variant", [v for v in ASYNCHRONOUS if "asgd" in v])
@pytest.mark.parametrize("servers", [1, 2])
def test_servers_hold_the_centre(variant: str, servers: int) -> None:
    def work(whole: Any) -> torch.Tensor | None:
        crew = form_crew(whole, servers)
        if crew.is_server:
            serve(crew)
            return None
        rule, replica = make(variant, crew)
        rule.start(replica)
        where = "a server" if servers == 1 else "2 servers"
        assert rule.way == f"visits to {where} in fp32"
        train(rule, replica, crew.workers.rank, range(200))
        rule.finish(replica)
        with rule.consensus(replica):
            return replica.parameters[0].clone()

    for vector in scripted(2 + servers, 3, work)[:2]:
        wanted = torch.tensor([1.0, -2.0, 0.5, 0.25], dtype=torch.float64)
        assert torch.allclose(vector, wanted, atol=1e-3)


def test_two_level_is_known_by_its_parts() -> None:
    assert parse_rule("bsp/diloco")[0] == TWO_LEVEL


def identical(first: str, second: str) -> None:
    """Both give the same bits, with SGD without momentum."""

    def work(world: Any) -> list[torch.Tensor]:
        ends = []
        for variant in (first, second):
            rule, replica = make(variant, world)
            for group in replica.optimizer.param_groups:
                group["momentum"] = 0.0
            rule.start(replica)
            train(rule, replica, world.rank, range(12))
            ends.append(replica.parameters[0].clone())
            rule.finish(replica)
        return ends

    for workers in (1, 2, 3, 4):
        for a, b in run_threads(thread_worlds(workers), work):
            assert torch.equal(a, b)


def test_local_sgd_with_period_1_averages_weights_at_every_step() -> None:
    identical("local-sgd:period=1", "bsp:scheme=weights")


def test_easgd_without_a_spring_leaves_the_workers_alone() -> None:
    def work(world: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rule, replica = make("easgd:alpha=0,period=1", world)
        rule.start(replica)
        alone, twin = make("bsp", SerialWorld())
        alone.start(twin)
        twin.parameters[0].copy_(replica.parameters[0])
        train(rule, replica, world.rank, range(9))
        train(alone, twin, world.rank, range(9))
        vector = replica.parameters[0].clone()
        rule.finish(replica)
        return vector, twin.parameters[0].clone()

    for vector, alone in run_threads(thread_worlds(3), work):
        assert torch.equal(vector, alone)
