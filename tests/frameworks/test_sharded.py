"""A shared-out optimizer does, to the last bit, what the whole one does."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.errors import UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks import sharded
from arignote.frameworks.sharded import ELEMENTWISE, is_elementwise
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring
from arignote.rules.bsp import BSP

OPTIMIZERS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "weight_decay": 0.01}),
    ("SGD", {"momentum": 0.9, "nesterov": True}),
    ("SGD", {"momentum": 0.9, "dampening": 0.1, "maximize": True}),
    ("SGD", {"momentum": 0.9, "foreach": True}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "weight_decay": 0.01}),
    ("AdamW", {"betas": (0.8, 0.99)}),
    ("AdamW", {"amsgrad": True}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True, "weight_decay": 0.01}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.1}),
    ("Adadelta", {"weight_decay": 0.01}),
    ("Adamax", {"weight_decay": 0.01}),
    ("NAdam", {"weight_decay": 0.01, "decoupled_weight_decay": True}),
    ("RAdam", {"weight_decay": 0.01}),
    ("ASGD", {"weight_decay": 0.01, "t0": 2}),
    ("Rprop", {}),
]
"""Every optimizer of `ELEMENTWISE`, in its forms."""

IDS = ["-".join([name, *options]) for name, options in OPTIMIZERS]


class Odd(nn.Module):
    """7,236 elements in sizes that nothing divides: across slices, of one element, of none."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.first = nn.Parameter(torch.randn(61, 37, generator=generator))
        self.bias = nn.Parameter(torch.randn(61, generator=generator))
        self.idle = nn.Parameter(torch.randn(13, generator=generator))
        self.one = nn.Parameter(torch.randn(1, generator=generator))
        self.second = nn.Parameter(torch.randn(3, 7, 233, generator=generator))
        self.last = nn.Parameter(torch.randn(10, generator=generator))

    def groups(self) -> list[dict[str, Any]]:
        """Weights; biases without decay and with another rate; `idle` is in neither."""
        small = [self.scale, self.bias, self.one]
        return [
            {"params": [self.first, self.second]},
            {"params": [*small, self.last], "lr": 0.003, "weight_decay": 0.0},
        ]


def make(
    world: Any,
    options: str,
    optimizer: Callable[[Odd], torch.optim.Optimizer],
    *,
    exchange: str = "shm",
    **replica: Any,
) -> tuple[BSP, TorchReplica]:
    """A started rule over `Odd`."""
    way = open_exchange(exchange, world)
    _, parsed = parse_rule(f"bsp:{options}")
    rule = BSP(parsed, world, way, Recorder())
    module = Odd()
    own = TorchReplica(module, optimizer(module), allocate=way.route.allocate, **replica)
    rule.start(own)
    return rule, own


def go(rule: BSP, replica: TorchReplica, steps: range, *, even: bool = False) -> None:
    """Steps whose gradients and numbers of samples depend on the step and the worker."""
    rank = rule.world.rank
    for step in steps:
        for group in replica.optimizer.param_groups if step == 3 else ():
            group["lr"] *= 0.5
        generator = torch.Generator().manual_seed(100 * step + rank)
        for vector in replica.gradients:
            vector.copy_(torch.randn(vector.numel(), generator=generator))
        samples = 4 if even else 1 + (step + 2 * rank) % 5
        rule.step(replica, Bring(samples=samples))


def named(kind: str, options: dict[str, Any]) -> Callable[[Odd], torch.optim.Optimizer]:
    return lambda module: getattr(torch.optim, kind)(module.groups(), lr=0.01, **options)


def equal(a: Any, b: Any) -> bool:
    """Of nested states: keys, types, values, bits."""
    if isinstance(a, torch.Tensor):
        alike = isinstance(b, torch.Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape)
        return alike and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


def weights(replica: TorchReplica) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in replica.named_tensors().items()}


def states_held(replica: TorchReplica) -> int:
    """Elements of optimizer state on this worker."""
    assert replica._shard is not None
    assert not any(replica.optimizer.state.values())
    own = replica._shard._own
    states = own.state.values() if own else ()
    return sum(t.numel() for state in states for t in state.values() if t.ndim)


def test_no_elementwise_optimizer_is_forgotten() -> None:
    assert {name for name, _ in OPTIMIZERS} == set(ELEMENTWISE)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS, ids=IDS)
def test_weights_and_state_are_those_of_the_whole_bit_for_bit(
    kind: str, options: dict[str, Any], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharded, "PIECE", 700)

    def run(sharding: str, exchange: str) -> Any:
        def work(world: Any) -> Any:
            rule, replica = make(world, sharding, named(kind, options), exchange=exchange)
            assert (replica._shard is not None) == (sharding == "sharded=on" and workers > 1)
            go(rule, replica, range(6))
            state = replica.optimizer_state()
            rule.finish(replica)
            return weights(replica), state

        return run_threads(thread_worlds(workers), work)

    whole = run("sharded=off", "asa")
    assert torch.equal(whole[0][0]["idle"], Odd().idle)
    assert not torch.equal(whole[0][0]["one"], Odd().one)
    for exchange in ("shm", "asa"):
        for ours, theirs in zip(run("sharded=on", exchange), whole, strict=True):
            assert equal(ours[0], theirs[0]), exchange
            assert equal(ours[1], theirs[1]), exchange


@pytest.mark.parametrize("exchange", ["shm", "asa"])
def test_double_precision_and_mixed_dtypes(exchange: str) -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.single = nn.Linear(31, 43)
            self.double_ = nn.Linear(37, 91, dtype=torch.float64)

    def run(sharding: str) -> Any:
        def work(world: Any) -> Any:
            way = open_exchange(exchange, world)
            _, options = parse_rule(f"bsp:{sharding}")
            rule = BSP(options, world, way, Recorder())
            module = Mixed()
            optimizer = torch.optim.AdamW(module.parameters(), lr=0.01)
            replica = TorchReplica(module, optimizer, allocate=way.route.allocate)
            rule.start(replica)
            go(rule, replica, range(4))
            return weights(replica), replica.optimizer_state()

        # torch's generator belongs to the whole process.
        return run_threads(thread_worlds(3), work, in_turns=True)

    assert equal(run("sharded=on"), run("sharded=off"))


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_memory_of_the_optimizer_is_divided(workers: int) -> None:
    def work(world: Any) -> int:
        rule, replica = make(world, "sharded=on", named("Adam", {"amsgrad": True}))
        go(rule, replica, range(2))
        return states_held(replica)

    held = run_threads(thread_worlds(workers), work)
    updated = sum(p.numel() for group in Odd().groups() for p in group["params"])
    assert sum(held) == 3 * updated
    # Slices begin at multiples of 1024 elements.
    assert max(held) <= 3 * (updated / workers + 1024)


def test_tiny_models_leave_workers_without_work() -> None:
    # Fewer elements than a slice's alignment: one worker updates everything.
    def run(sharding: str) -> Any:
        def work(world: Any) -> Any:
            way = open_exchange("asa", world)
            _, options = parse_rule(f"bsp:{sharding}")
            rule = BSP(options, world, way, Recorder())
            module = nn.Linear(3, 2)
            optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
            replica = TorchReplica(module, optimizer, allocate=way.route.allocate, clip_norm=0.5)
            rule.start(replica)
            go(rule, replica, range(3))
            saved = replica.optimizer_state()
            replica.load_optimizer_state(saved)
            go(rule, replica, range(3, 5))
            return saved, [group["lr"] for group in optimizer.param_groups]

        return run_threads(thread_worlds(3), work, in_turns=True)

    ours, theirs = run("sharded=on"), run("sharded=off")
    for (saved, rates), (wanted, wanted_rates) in zip(ours, theirs, strict=True):
        assert rates == wanted_rates
        assert saved["optimizer"]["state"].keys() == wanted["optimizer"]["state"].keys()
    assert equal(ours[0], ours[1])
    assert equal(ours[0], ours[2])


def test_state_before_the_first_step() -> None:
    def run(kind: str, sharding: str) -> Any:
        def work(world: Any) -> Any:
            _, replica = make(world, sharding, named(kind, {}))
            return replica.optimizer_state()

        return run_threads(thread_worlds(3), work)

    for kind in ("Adam", "Adagrad", "SGD"):
        ours, theirs = run(kind, "sharded=on"), run(kind, "sharded=off")
        assert equal(ours, theirs), kind


def test_saving_changes_nothing() -> None:
    def work(world: Any, save: bool) -> Any:
        rule, replica = make(world, "sharded=on", named("Adam", {}))
        for step in range(6):
            go(rule, replica, range(step, step + 1))
            if save:
                replica.optimizer_state()
        return weights(replica)

    saving, not_saving = (
        run_threads(thread_worlds(3), lambda world, save=save: work(world, save))
        for save in (True, False)
    )
    assert equal(saving, not_saving)


@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS, ids=IDS)
def test_resume_goes_on_as_if_never_stopped(kind: str, options: dict[str, Any]) -> None:
    def straight(world: Any) -> Any:
        rule, replica = make(world, "sharded=on", named(kind, options))
        go(rule, replica, range(6))
        return weights(replica)

    def save(world: Any) -> Any:
        rule, replica = make(world, "sharded=on", named(kind, options))
        go(rule, replica, range(4))
        return rule.state_dict(), weights(replica), replica.optimizer_state(), rates(replica)

    def rates(replica: TorchReplica) -> list[float]:
        return [float(group["lr"]) for group in replica.optimizer.param_groups]

    saved = run_threads(thread_worlds(3), save)

    def resume(world: Any, sharding: str, even: bool) -> Any:
        rule, replica = make(world, sharding, named(kind, options))
        # torch keeps the tensors that it is given.
        state = copy.deepcopy(saved[world.rank])
        rule_state, tensors, optimizer_state, learning_rates = state
        replica.load_named_tensors(tensors)
        replica.load_optimizer_state(optimizer_state)
        for group, rate in zip(replica.optimizer.param_groups, learning_rates, strict=True):
            group["lr"] = rate
        rule.load_state_dict(rule_state)
        go(rule, replica, range(4, 6), even=even)
        return weights(replica), replica.optimizer_state()["optimizer"]["state"]

    def resumed(workers: int, sharding: str, even: bool = False) -> Any:
        return run_threads(thread_worlds(workers), lambda world: resume(world, sharding, even))

    on, off = resumed(3, "sharded=on"), resumed(3, "sharded=off")
    assert equal([tensors for tensors, _ in on], run_threads(thread_worlds(3), straight))
    assert equal(on, off)
    assert equal(resumed(2, "sharded=on", True), resumed(2, "sharded=off", True))
    assert equal(resumed(1, "sharded=on", True), resumed(1, "sharded=off", True))


def test_state_of_the_whole_is_loaded_by_shards() -> None:
    def work(world: Any, first: str, second: str) -> Any:
        rule, replica = make(world, first, named("AdamW", {}))
        go(rule, replica, range(3))
        kept = weights(replica), replica.optimizer_state()
        rule, replica = make(world, second, named("AdamW", {}))
        replica.load_named_tensors(kept[0])
        replica.load_optimizer_state(kept[1])
        go(rule, replica, range(4, 6))
        return weights(replica)

    kinds = ("sharded=off", "sharded=on")
    results = [
        run_threads(thread_worlds(4), lambda world, a=a, b=b: work(world, a, b))
        for a in kinds
        for b in kinds
    ]
    assert all(equal(results[0], result) for result in results[1:])


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_clipping_is_that_of_the_whole_gradient(workers: int, relative_difference: Any) -> None:
    def run(sharding: str, clip_norm: float) -> Any:
        def work(world: Any) -> Any:
            sgd = named("SGD", {"momentum": 0.9})
            rule, replica = make(world, sharding, sgd, clip_norm=clip_norm)
            go(rule, replica, range(5))
            return weights(replica)

        return run_threads(thread_worlds(workers), work)

    on, off, without = run("sharded=on", 1.0), run("sharded=off", 1.0), run("sharded=off", 0.0)
    for ours, theirs in zip(on, off, strict=True):
        assert relative_difference(theirs, ours) < 1e-6
    assert relative_difference(off[0], without[0]) > 1e-3
    assert all(equal(on[0], ours) for ours in on[1:])
    # A norm that is never reached changes no bit.
    assert equal(run("sharded=on", 1e6), without)


def test_gradients_that_are_no_numbers_reach_the_weights_as_without_shards() -> None:
    def work(world: Any, sharding: str) -> Any:
        rule, replica = make(world, sharding, named("SGD", {}), clip_norm=1.0)
        replica.gradients[0].fill_(1.0)
        if world.rank == 1:
            replica.gradients[0][5000] = torch.nan
        rule.step(replica, Bring(samples=1))
        return replica.parameters[0].isnan().clone()

    on, off = (
        run_threads(thread_worlds(2), lambda world, s=s: work(world, s))
        for s in ("sharded=on", "sharded=off")
    )
    assert equal(on, off)


def test_schedules_of_torch_work_and_do_not_warn() -> None:
    def work(world: Any, sharding: str) -> Any:
        rule, replica = make(world, sharding, named("SGD", {"momentum": 0.9}))
        schedule = torch.optim.lr_scheduler.OneCycleLR(replica.optimizer, max_lr=0.1, total_steps=8)
        rates = []
        for step in range(5):
            go(rule, replica, range(step + 10, step + 11))
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                schedule.step()
            rates.append(schedule.get_last_lr())
        return weights(replica), rates

    on, off = (
        run_threads(thread_worlds(3), lambda world, s=s: work(world, s))
        for s in ("sharded=on", "sharded=off")
    )
    assert equal(on, off)


def test_a_start_with_state_keeps_it() -> None:
    """A user's loop may load a checkpoint into its optimizer before `attach`."""

    def work(world: Any, sharding: str) -> Any:
        def warmed(module: Odd) -> torch.optim.Optimizer:
            optimizer = named("SGD", {"momentum": 0.9})(module)
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.ones_like(parameter)
            optimizer.step()
            return optimizer

        rule, replica = make(world, sharding, warmed)
        assert (replica._shard is not None) == (sharding == "sharded=on")
        go(rule, replica, range(2))
        if replica._shard is not None:
            states_held(replica)
        return weights(replica)

    on, off = (
        run_threads(thread_worlds(2), lambda world, s=s: work(world, s))
        for s in ("sharded=on", "sharded=off")
    )
    assert equal(on, off)


class MySGD(torch.optim.SGD):
    """May do anything in its step."""


class LayerWise(torch.optim.Optimizer):
    """The norm of a whole parameter is in its update."""

    def __init__(self, groups: Any, lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                with torch.no_grad():
                    parameter.sub_(group["lr"] * parameter.grad / (1 + parameter.grad.norm()))


UNKNOWN = [
    (MySGD, {}),
    (LayerWise, {}),
    (torch.optim.Adafactor, {}),
    # Its kernels round the last elements of a tensor in another way.
    (torch.optim.Adam, {"fused": True}),
]


@pytest.mark.parametrize(("kind", "options"), UNKNOWN, ids=lambda it: getattr(it, "__name__", ""))
def test_unknown_optimizers_are_not_shared_out(kind: Any, options: dict[str, Any]) -> None:
    def build(module: Odd) -> torch.optim.Optimizer:
        return kind(module.groups(), lr=0.01, **options)

    assert not is_elementwise(build(Odd()))

    def by_itself(world: Any) -> Any:
        rule, replica = make(world, "sharded=auto", build)
        go(rule, replica, range(2))
        assert replica._shard is None
        return weights(replica)

    first, second = run_threads(thread_worlds(2), by_itself)
    assert equal(first, second)

    def wanted(world: Any) -> str:
        with pytest.raises(UserError) as caught:
            make(world, "sharded=on", build)
        return str(caught.value)

    assert (
        run_threads(thread_worlds(2), wanted)
        == [
            f"bsp:sharded=on cannot be: {kind.__name__} is not known to be elementwise (torch's "
            "own are, but for the fused ones, which round a slice's end in another way); use "
            "sharded=auto"
        ]
        * 2
    )


@pytest.mark.parametrize(
    ("exchange", "dtype", "reason"),
    [
        ("allreduce", torch.float32, "allreduce does not add up slice by slice"),
        ("asa:int8", torch.float32, "int8 is for gradients, and weights would travel too"),
        ("asa", torch.bfloat16, "the model is in torch.bfloat16"),
    ],
)
def test_exchanges_and_models_that_cannot_be_shared_out(
    exchange: str, dtype: torch.dtype, reason: str
) -> None:
    def start(world: Any, sharding: str) -> TorchReplica:
        way = open_exchange(exchange, world)
        _, options = parse_rule(f"bsp:{sharding}")
        rule = BSP(options, world, way, Recorder())
        module = nn.Linear(50, 60, dtype=dtype)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        replica = TorchReplica(module, optimizer, allocate=way.route.allocate)
        rule.start(replica)
        rule.step(replica, Bring(samples=1))
        return replica

    def work(world: Any) -> None:
        assert start(world, "sharded=auto")._shard is None
        with pytest.raises(UserError, match=f"sharded=on cannot be: {reason}; use sharded=auto"):
            start(world, "sharded=on")

    run_threads(thread_worlds(2), work)


def test_loss_scaling_sees_the_whole_gradient() -> None:
    def start(world: Any, sharding: str) -> TorchReplica:
        scaler = torch.amp.GradScaler("cpu")
        return make(world, sharding, named("SGD", {}), scaler=scaler)[1]

    def work(world: Any) -> None:
        assert start(world, "sharded=auto")._shard is None
        with pytest.raises(UserError, match="fp16 looks for infinities in the whole gradient"):
            start(world, "sharded=on")

    run_threads(thread_worlds(2), work)


def test_auto_shares_out_on_one_host_only() -> None:
    def shared_out(world: Any) -> bool:
        _, replica = make(world, "overlap=off", named("SGD", {}), exchange="asa")
        return replica._shard is not None

    assert run_threads(thread_worlds(2), shared_out) == [True, True]
    assert run_threads(thread_worlds(2, hosts=["a", "b"]), shared_out) == [False, False]


def test_step_hooks_keep_the_update_whole() -> None:
    def work(world: Any) -> tuple[bool, int]:
        seen: list[int] = []

        def build(module: Odd) -> torch.optim.Optimizer:
            optimizer = torch.optim.SGD(module.groups(), lr=0.01)
            optimizer.register_step_post_hook(lambda *_: seen.append(1))
            return optimizer

        rule, replica = make(world, "sharded=auto", build)
        go(rule, replica, range(2))
        return replica._shard is None, len(seen)

    assert run_threads(thread_worlds(2), work) == [(True, 2)] * 2


def test_a_group_that_comes_late_is_refused() -> None:
    def work(world: Any) -> str:
        def build(module: Odd) -> torch.optim.Optimizer:
            return torch.optim.SGD(module.groups(), lr=0.01)

        _rule, replica = make(world, "sharded=on", build)
        replica.optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
        with pytest.raises(UserError) as caught:
            replica.update()
        return str(caught.value)

    for message in run_threads(thread_worlds(2), work):
        assert message.startswith("the optimizer was given a parameter group after the start: give")


def test_a_state_that_the_user_loads_later_is_taken() -> None:
    def work(world: Any) -> Any:
        def build(module: Odd) -> torch.optim.Optimizer:
            return torch.optim.SGD(module.groups(), lr=0.01, momentum=0.9)

        rule, replica = make(world, "sharded=on", build)
        go(rule, replica, range(2))
        whole = replica.optimizer_state()["optimizer"]
        replica.optimizer.load_state_dict(whole)
        again = replica.optimizer_state()["optimizer"]
        return [
            torch.equal(whole["state"][i][key], again["state"][i][key])
            for i in whole["state"]
            for key in whole["state"][i]
            if isinstance(whole["state"][i][key], torch.Tensor)
        ]

    for same in run_threads(thread_worlds(2), work):
        assert same
        assert all(same)
