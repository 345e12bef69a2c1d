"""Buckets that are exchanged while backward still runs give what one exchange after it gives."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from arignote.accelerator import Mark
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.rule_options import parse_rule
from arignote.errors import LostWorkerError, UserError
from arignote.exchange import overlap
from arignote.exchange.open import open_exchange
from arignote.exchange.overlap import BUCKET, buckets_of
from arignote.frameworks.torch_replica import TorchReplica
from arignote.recorder.phases import Recorder
from arignote.rules.base import Bring
from arignote.rules.bsp import BSP


def shapes(*elements: int) -> tuple[torch.Size, ...]:
    return tuple(torch.Size([count]) for count in elements)


def borders(least: int, *vectors: tuple[torch.Size, ...]) -> list[tuple[int, int, int]]:
    return [(b.vector, b.start, b.stop) for b in buckets_of(vectors, least)]


def test_buckets_are_cut_at_parameters_from_the_last_one_on() -> None:
    assert borders(10, shapes(4, 4, 4, 4)) == [(0, 4, 16), (0, 0, 4)]
    assert borders(8, shapes(4, 4, 4, 4)) == [(0, 8, 16), (0, 0, 8)]
    assert borders(1, shapes(4, 4, 4)) == [(0, 8, 12), (0, 4, 8), (0, 0, 4)]
    assert borders(99, shapes(4, 4, 4)) == [(0, 0, 12)]


def test_a_tensor_larger_than_a_bucket_stays_whole() -> None:
    assert borders(10, shapes(3, 50, 2)) == [(0, 3, 55), (0, 0, 3)]
    assert borders(10, shapes(50, 50)) == [(0, 50, 100), (0, 0, 50)]
    assert borders(BUCKET, shapes(BUCKET, 1)) == [(0, 0, BUCKET + 1)]
    assert borders(BUCKET, shapes(1, BUCKET)) == [(0, 1, BUCKET + 1), (0, 0, 1)]


def test_every_vector_has_buckets_of_its_own() -> None:
    assert borders(6, shapes(4, 4), shapes(8), shapes(1)) == [(0, 0, 8), (1, 0, 8), (2, 0, 1)]
    assert borders(6) == []


def test_tensors_of_several_axes_and_of_none() -> None:
    assert borders(5, (torch.Size([2, 3]), torch.Size([]), torch.Size([4]))) == [
        (0, 6, 11),
        (0, 0, 6),
    ]


@pytest.mark.parametrize("least", [1, 7, 64, 1000, 10**9])
def test_every_parameter_is_in_exactly_one_bucket(least: int) -> None:
    generator = torch.Generator().manual_seed(least)
    vectors = [
        shapes(*torch.randint(1, 300, (count,), generator=generator).tolist())
        for count in (1, 2, 30)
    ]
    found = buckets_of(vectors, least)
    for number, members in enumerate(vectors):
        starts = [sum(s.numel() for s in members[:i]) for i in range(len(members) + 1)]
        own = [b for b in found if b.vector == number]
        assert own[0].stop == starts[-1] and own[-1].start == 0
        assert all(b.start == after.stop for b, after in pairwise(own))
        assert all(b.stop - b.start >= least for b in own[:-1])
        assert sorted(s for b in own for s in b.members) == starts[:-1]
        assert all(b.start <= s < b.stop for b in own for s in b.members)


class Net(nn.Module):
    """A shared weight, a frozen one, one that only some workers use; about 6,000 elements."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = nn.Linear(11, 37)
        self.second = nn.Linear(37, 37)
        self.third = nn.Linear(37, 37)
        self.third.weight = self.second.weight
        self.sometimes = nn.Linear(37, 37)
        self.never = nn.Parameter(torch.ones(19))
        self.frozen = nn.Parameter(torch.full((37,), 1.5), requires_grad=False)
        self.gain = nn.Parameter(torch.tensor(0.9))
        self.last = nn.Linear(37, 53)
        self.double_ = nn.Linear(53, 29, dtype=torch.float64)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.requires_grad and parameter.ndim:
                    value = torch.randn(parameter.shape, generator=generator)
                    parameter.copy_(value / parameter.shape[-1] ** 0.5)

    def forward(self, x: torch.Tensor, detour: bool) -> torch.Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.first(x)))) * self.frozen
        if detour:
            hidden = torch.tanh(self.sometimes(hidden))
        hidden = torch.tanh(self.third(hidden)) * self.gain
        return self.double_(self.last(hidden).double())


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "buckets_of", partial(buckets_of, least=900))


def make(
    world: Any, option: str, exchange: str, module: Callable[[], nn.Module] = Net
) -> tuple[BSP, TorchReplica]:
    way = open_exchange(exchange, world)
    _, options = parse_rule(f"bsp:sharded=off,overlap={option}")
    rule = BSP(options, world, way, Recorder())
    net = module()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    replica = TorchReplica(net, optimizer, allocate=way.route.allocate)
    rule.start(replica)
    return rule, replica


def samples_of(rank: int, step: int) -> int:
    """Other numbers on every worker; at step 2 one has nothing."""
    return 0 if (step, rank) == (2, 1) else 1 + (step + 2 * rank) % 4


def backward(replica: TorchReplica, rank: int, step: int, samples: int, part: int = 0) -> None:
    generator = torch.Generator().manual_seed(1000 * step + 10 * rank + part)
    inputs = torch.randn(samples, 11, generator=generator)
    replica.module(inputs, detour=(step + rank) % 3 == 0).square().mean().backward()


def one_step(rule: BSP, replica: TorchReplica, step: int, begins: str = "always") -> None:
    rank = rule.world.rank
    samples = samples_of(rank, step)
    replica.zero_grad()
    if begins == "accumulate":
        for part in (1, 2):
            if samples:
                backward(replica, rank, step, samples, part)
    # Some workers begin, others do not: the buckets meet all the same.
    if begins in ("always", "accumulate") or (begins == "some" and rank % 2):
        replica.begin(samples)
    if samples:
        backward(replica, rank, step, samples)
    rule.step(replica, Bring(samples=samples))


def tensors(replica: TorchReplica) -> list[torch.Tensor]:
    return [vector.clone() for vector in (*replica.parameters, *replica.gradients)]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def run(
    workers: int,
    option: str,
    exchange: str,
    steps: int = 5,
    begins: str = "always",
    module: Callable[[], nn.Module] = Net,
) -> list[tuple[list[torch.Tensor], int]]:
    """Weights, gradients and bytes on the wire of each worker."""

    def work(world: Any) -> tuple[list[torch.Tensor], int]:
        rule, replica = make(world, option, exchange, module)
        assert (rule._overlap is not None) == (option == "on" and workers > 1)
        for step in range(steps):
            one_step(rule, replica, step, begins)
        rule.finish(replica)
        return tensors(replica), rule.recorder.wire_bytes

    return run_threads(thread_worlds(workers), work, in_turns=True)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("exchange", ["asa", "allreduce", "shm"])
@pytest.mark.parametrize("begins", ["always", "accumulate", "never", "some"])
@pytest.mark.usefixtures("small_buckets")
def test_results_are_those_without_overlap_bit_for_bit(
    exchange: str, workers: int, begins: str
) -> None:
    on, off = (run(workers, option, exchange, begins=begins) for option in ("on", "off"))
    for ours, theirs in zip(on, off, strict=True):
        assert same(ours[0], theirs[0])
    assert all(same(ours[:2], on[0][0][:2]) for ours, _ in on)
    if exchange != "allreduce":
        assert sum(sent for _, sent in on) == sum(sent for _, sent in off)


@pytest.mark.usefixtures("small_buckets")
def test_what_auto_chose_is_overlapped() -> None:
    on, off = (run(3, option, "auto") for option in ("on", "off"))
    assert all(same(ours[0], theirs[0]) for ours, theirs in zip(on, off, strict=True))


def test_one_bucket_for_all() -> None:
    on, off = (run(3, option, "asa") for option in ("on", "off"))
    assert all(same(ours[0], theirs[0]) for ours, theirs in zip(on, off, strict=True))


@pytest.mark.parametrize("exchange", ["asa", "shm"])
@pytest.mark.usefixtures("small_buckets")
def test_auto_overlaps_between_hosts_only(exchange: str) -> None:
    def overlaps(world: Any) -> bool:
        rule, replica = make(world, "auto", exchange)
        rule.finish(replica)
        return rule._overlap is not None

    assert run_threads(thread_worlds(2), overlaps) == [False, False]
    if exchange == "asa":
        assert run_threads(thread_worlds(2, hosts=["a", "b"]), overlaps) == [True, True]


def test_an_mpi_of_one_thread_cannot_overlap() -> None:
    def work(world: Any) -> None:
        world.many_threads = False
        rule, replica = make(world, "auto", "asa")
        assert rule._overlap is None
        rule.finish(replica)
        with pytest.raises(UserError) as caught:
            make(world, "on", "asa")
        assert str(caught.value) == (
            "bsp:overlap=on cannot be: threads serves one thread only; use overlap=auto"
        )

    run_threads(thread_worlds(2, hosts=["a", "b"]), work)


def exchange_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "exchange"]


def test_finish_ends_the_thread(wait_until: Any) -> None:
    before = len(exchange_threads())
    during = []

    def work(world: Any) -> None:
        rule, replica = make(world, "on", "asa")
        one_step(rule, replica, 0)
        world.meet([], "the count")
        during.append(len(exchange_threads()) - before)
        world.meet([], "the count")
        rule.finish(replica)

    run_threads(thread_worlds(2), work)
    assert during == [2, 2]
    wait_until(lambda: len(exchange_threads()) == before, 5, "a thread of the overlap is left")


def both_fail(message: str, misuse: Callable[[BSP, TorchReplica], None]) -> None:
    """All workers misuse it alike; then their threads are ended."""

    def work(world: Any) -> None:
        rule, replica = make(world, "on", "asa")
        one_step(rule, replica, 0)
        replica.zero_grad()
        with pytest.raises(UserError, match=message):
            misuse(rule, replica)
        assert rule._overlap is not None
        rule._overlap.close()

    run_threads(thread_worlds(2), work)


@pytest.mark.usefixtures("small_buckets")
def test_begin_twice_is_told_of() -> None:
    def misuse(rule: BSP, replica: TorchReplica) -> None:
        replica.begin(4)
        replica.begin(4)

    both_fail(r"begin\(samples\) was called twice in a step: .* before the last backward", misuse)


@pytest.mark.usefixtures("small_buckets")
def test_two_backwards_after_begin_are_told_of() -> None:
    def misuse(rule: BSP, replica: TorchReplica) -> None:
        replica.begin(4)
        backward(replica, rule.world.rank, 1, 4)
        backward(replica, rule.world.rank, 2, 4)

    both_fail(r"backward ran twice after begin\(samples\): call begin before the last", misuse)


@pytest.mark.usefixtures("small_buckets")
def test_step_with_another_number_of_samples_is_told_of() -> None:
    def misuse(rule: BSP, replica: TorchReplica) -> None:
        replica.begin(4)
        backward(replica, rule.world.rank, 1, 4)
        rule.step(replica, Bring(samples=3))

    both_fail(r"step got samples=3 after begin\(samples=4\): give both the same number", misuse)


def quiet(thread: threading.Thread) -> None:
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.usefixtures("small_buckets")
def test_a_worker_lost_in_the_exchange_is_named_and_nobody_hangs() -> None:
    def work(world: Any) -> str:
        rule, replica = make(world, "on", "asa")
        one_step(rule, replica, 0)
        world.timeout_seconds = 0.4
        if world.rank == 1:
            # Comes to the roll call of step 2, and dies before its exchange.
            rule._call_roll(Bring(samples=samples_of(1, 1)))
            return "dead"
        before = [vector.clone() for vector in replica.parameters]
        with pytest.raises(LostWorkerError) as caught:
            one_step(rule, replica, 1)
        assert same(before, list(replica.parameters))
        assert rule._overlap is not None
        quiet(rule._overlap._thread)
        return str(caught.value)

    messages = run_threads(thread_worlds(3), work)
    for message in messages[::2]:
        assert message == "worker 1 did not come to the exchange of step 2 within 0.4 s"


@pytest.mark.usefixtures("small_buckets")
def test_a_worker_that_ends_its_loop_while_others_have_begun() -> None:
    def work(world: Any) -> str:
        rule, replica = make(world, "on", "asa")
        one_step(rule, replica, 0)
        world.timeout_seconds = 0.4
        try:
            if world.rank != 1:
                one_step(rule, replica, 1)
            rule.finish(replica)
        except UserError as error:
            return str(error)
        finally:
            assert rule._overlap is not None
            rule._overlap._jobs.put(None)
            quiet(rule._overlap._thread)
        return "nothing"

    for message in run_threads(thread_worlds(3), work):
        assert message.startswith("1 of 3 workers ended their loop while others are at step 2")


@pytest.mark.usefixtures("small_buckets")
def test_an_error_in_the_thread_surfaces_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Any, bucket: Any, weight: Any) -> int:
        raise RuntimeError("the disk of the network is full")

    monkeypatch.setattr(overlap.Overlap, "_round", fail)

    def work(world: Any) -> None:
        rule, replica = make(world, "on", "asa")
        with pytest.raises(RuntimeError, match="the disk of the network is full"):
            one_step(rule, replica, 0)
        assert rule._overlap is not None
        rule._overlap.close()

    run_threads(thread_worlds(2), work)


LOSSY = ["asa:onebit", "asa:powersgd,rank=2", "asa:int8", "asa:topk,k=0.2"]


def dense() -> nn.Module:
    """float32 only, without branches: 4,865 elements."""
    generator = torch.Generator().manual_seed(2)
    module = nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 56), nn.Linear(56, 1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def regress(rule: BSP, replica: TorchReplica, step: int) -> float:
    """A step of least squares; its loss."""
    generator = torch.Generator().manual_seed(100 * step + rule.world.rank)
    inputs = torch.randn(16, 16, generator=generator)
    replica.zero_grad()
    replica.begin(16)
    loss = (replica.module(inputs)[:, 0] - inputs.mean(1)).square().mean()
    loss.backward()
    rule.step(replica, Bring(samples=16, loss=float(loss.detach())))
    return float(loss.detach())


@pytest.mark.parametrize("exchange", LOSSY)
@pytest.mark.usefixtures("small_buckets")
def test_lossy_codecs_converge(exchange: str) -> None:
    def work(world: Any) -> tuple[list[float], list[torch.Tensor]]:
        rule, replica = make(world, "on", exchange, dense)
        for group in replica.optimizer.param_groups:
            group["lr"] = 0.01
        losses = [regress(rule, replica, step) for step in range(120)]
        rule.finish(replica)
        return losses, list(replica.parameters)

    results = run_threads(thread_worlds(2), work)
    for losses, _ in results:
        assert sum(losses[-10:]) < 0.1 * sum(losses[:10])
    assert same(results[0][1], results[1][1])


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("exchange", LOSSY)
@pytest.mark.usefixtures("small_buckets")
def test_save_and_resume_equals_going_on(exchange: str, workers: int) -> None:
    def work(world: Any, stop_after: int) -> list[torch.Tensor]:
        rule, replica = make(world, "on", exchange, dense)
        for step in range(8):
            if step == stop_after:
                kept = copy.deepcopy(
                    (rule.state_dict(), replica.optimizer_state(), replica.named_tensors())
                )
                # What was saved is used up by nobody: the old run goes on beside the new one.
                old_rule, old_replica = rule, replica
                rule, replica = make(world, "on", exchange, dense)
                replica.load_named_tensors(kept[2])
                replica.load_optimizer_state(kept[1])
                rule.load_state_dict(kept[0])
                regress(old_rule, old_replica, step)
                old_rule.finish(old_replica)
            regress(rule, replica, step)
        rule.finish(replica)
        return list(replica.parameters)

    straight, resumed = (
        run_threads(thread_worlds(workers), lambda world, stop=stop: work(world, stop))
        for stop in (-1, 4)
    )
    assert all(same(a, b) for a, b in zip(straight, resumed, strict=True))


def test_streams_wait_for_each_other(monkeypatch: pytest.MonkeyPatch, small_buckets: None) -> None:
    """A bucket waits for the stream that wrote it, and what follows finish for all buckets."""
    log: dict[int, list[str]] = {}

    def note(what: str) -> None:
        log.setdefault(threading.get_ident(), []).append(what)

    class Logged(Mark):
        def __init__(self, device: torch.device) -> None:
            super().__init__(device)
            note("mark")

        def precede(self) -> None:
            note("follow")

    monkeypatch.setattr(overlap, "Mark", Logged)

    def work(world: Any) -> int:
        rule, replica = make(world, "on", "asa:fp32")
        assert rule._overlap is not None
        exchange = rule._overlap._exchange
        mean_ = exchange.mean_

        def logged(vector: torch.Tensor, **rest: Any) -> int:
            note("exchange")
            return mean_(vector, **rest)

        exchange.mean_ = logged  # type: ignore[method-assign]
        replica.begin(1.0)
        replica.module(torch.ones(1, 11), True).sum().backward()
        rule.step(replica, Bring(samples=1.0))
        rule.finish(replica)
        return len(rule._overlap._buckets)

    buckets, _ = run_threads(thread_worlds(2), work)
    assert buckets > 2
    threads = [doings for doings in log.values() if "exchange" in doings]
    assert threads == [["follow", "exchange", "mark"] * buckets] * 2
    rules = [doings for doings in log.values() if "exchange" not in doings]
    assert rules == [["mark"] * buckets + ["follow"] * buckets] * 2
