"""Batches for a user's own loop: each sample once an epoch, whoever takes it."""

from __future__ import annotations

import time
from itertools import chain
from typing import Any

import pytest
from torch.utils.data import DataLoader

from arignote.comm.base import World
from arignote.comm.counter import open_counter
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.trainer.batches import Batches


def run(size: int, work: Any, hosts: Any = ()) -> list[Any]:
    if size == 1:
        return [work(SerialWorld())]
    return run_threads(thread_worlds(size, hosts=hosts), work)


def taken(world: World, samples: int, batch_size: int, seed: int = 0) -> Batches:
    return Batches(samples, batch_size, seed=seed, world=world, counter=open_counter(world))


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(("samples", "batch_size"), [(203, 8), (24, 8), (25, 8), (4, 1), (5, 100)])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_each_sample_once(size: int, samples: int, batch_size: int, asynchronous: bool) -> None:
    def work(world: World) -> list[list[list[int]]]:
        counter = open_counter(world) if asynchronous else None
        batches = Batches(samples, batch_size, seed=3, world=world, counter=counter)
        time.sleep(0.01 * world.rank)
        return [list(batches) for _ in range(3)]

    everybodys = run(size, work)
    orders = []
    for epoch in range(3):
        lists = list(chain(*(epochs[epoch] for epochs in everybodys)))
        assert all(lists)
        assert sorted(chain(*lists)) == list(range(samples))
        orders.append(sorted(map(tuple, lists)))
    assert samples < 10 or orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("size", [1, 3])
def test_the_same_batches_as_in_step(size: int) -> None:
    def work(world: World) -> tuple[list[list[int]], list[list[int]]]:
        in_step = Batches(100, 7, seed=1, world=world)
        return list(in_step), list(taken(world, 100, 7, seed=1))

    results = run(size, work)
    a, b = (sorted(chain(*(result[which] for result in results))) for which in (0, 1))
    assert a == b


def test_several_hosts() -> None:
    def work(world: World) -> list[list[int]]:
        counter = open_counter(world)
        batches = Batches(50, 4, seed=0, world=world, counter=counter)
        lists = [*batches, *batches]
        counter.close()
        return lists

    everybodys = run(3, work, hosts=["a", "b", "a"])
    assert sorted(chain(*chain(*everybodys))) == sorted([*range(50)] * 2)


def test_a_fast_worker_is_an_epoch_ahead() -> None:
    def work(world: World) -> list[list[list[int]]]:
        batches = taken(world, 40, 4)
        epochs = []
        for _ in range(4):
            epochs.append([])
            for batch in batches:
                time.sleep(0.1 if world.rank else 0)
                epochs[-1].append(batch)
        return epochs

    fast, slow = run(2, work)
    for a, b in zip(fast, slow, strict=True):
        assert sorted(chain(*a, *b)) == list(range(40))
    assert sum(map(len, slow)) < sum(map(len, fast))


def test_two_at_the_same_time() -> None:
    def work(world: World) -> tuple[list[int], list[int]]:
        one, other = taken(world, 30, 3), taken(world, 40, 2)
        a, b = [], []
        for _ in range(2):
            left, right = iter(one), iter(other)
            while True:
                batches = next(left, None), next(right, None)
                if batches == (None, None):
                    break
                a += batches[0] or []
                b += batches[1] or []
        return a, b

    results = run(3, work)
    assert sorted(chain(*(a for a, _ in results))) == sorted([*range(30)] * 2)
    assert sorted(chain(*(b for _, b in results))) == sorted([*range(40)] * 2)


def test_an_epoch_that_is_named() -> None:
    def work(world: World) -> list[list[int]]:
        batches = taken(world, 20, 3)
        batches.epoch = 5
        return list(batches)

    def in_step(world: World) -> list[list[int]]:
        batches = Batches(20, 3, seed=0, world=world)
        batches.epoch = 5
        return list(batches)

    a, b = (sorted(chain(*run(2, each))) for each in (work, in_step))
    assert a == b


def test_an_epoch_left_early() -> None:
    def work(world: World) -> list[int]:
        batches = taken(world, 40, 2)
        made = []
        for _ in range(3):
            for number, batch in enumerate(batches):
                made += batch
                if number == 1:
                    break
        return made

    made = list(chain(*run(2, work)))
    # The rest of the same epoch follows.
    assert len(made) == len(set(made)) == 24


def test_a_data_loader() -> None:
    def work(world: World) -> list[int]:
        loader = DataLoader(range(101), batch_sampler=taken(world, 101, 4))  # type: ignore[arg-type]
        assert abs(len(loader) - 101 / 12) < 1
        return [int(i) for _ in range(2) for batch in loader for i in batch]

    assert sorted(chain(*run(3, work))) == sorted([*range(101)] * 2)
