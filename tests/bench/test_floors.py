"""The floors."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from arignote.bench import floors
from arignote.bench.floors import Line, copy
from arignote.comm.base import World
from arignote.comm.threads import run_threads, thread_worlds
from arignote.errors import LostWorkerError


def worlds_on(hosts: Sequence[str], monkeypatch: Any) -> list[World]:
    """Workers as threads that take themselves to be on `hosts`."""
    monkeypatch.setattr(floors, "open_store", lambda world, name: (None, "127.0.0.1"))
    worlds: list[World] = list(thread_worlds(len(hosts)))
    for world in worlds:
        world.timeout_seconds = 10.0
        world.peers = tuple(
            dataclasses.replace(peer, host=host)
            for peer, host in zip(world.peers, hosts, strict=True)
        )
    return worlds


def test_copy() -> None:
    source, target = torch.randn(10), torch.zeros(10)
    entrant = copy(source, target)
    assert (entrant.name, entrant.call()) == ("copy", 0)
    assert torch.equal(source, target)


@pytest.mark.parametrize("elements", [1, 1000, 700_001])
@pytest.mark.parametrize("hosts", ["ab", "aabc"])
def test_line(hosts: str, elements: int, monkeypatch: Any) -> None:
    worlds = worlds_on(hosts, monkeypatch)

    def work(world: World) -> list[int]:
        line = Line(world)
        entrant = line.entrant(torch.randn(elements))
        sent = [entrant.call(), entrant.call()]
        line.close()
        return sent

    count = len(set(hosts))
    least = 2 * (count - 1) * 4 * elements // count
    firsts = [host not in hosts[:rank] for rank, host in enumerate(hosts)]
    assert run_threads(worlds, work) == [[least] * 2 if first else [0] * 2 for first in firsts]


def test_a_line_that_ends(monkeypatch: Any) -> None:
    worlds = worlds_on("ab", monkeypatch)
    made = threading.Barrier(2, timeout=10)

    def work(world: World) -> str:
        world.timeout_seconds = 0.2
        line = Line(world)
        made.wait()
        if world.rank:
            line.close()
            return ""
        entrant = line.entrant(torch.randn(1000))
        with pytest.raises(LostWorkerError, match="a host closed the line: look at its worker"):
            entrant.call()
        line.close()
        return "told"

    assert run_threads(worlds, work) == ["told", ""]


def test_a_line_that_stands_still(monkeypatch: Any) -> None:
    worlds = worlds_on("ab", monkeypatch)
    done = threading.Barrier(2, timeout=10)

    def work(world: World) -> None:
        world.timeout_seconds = 0.2
        line = Line(world)
        if world.rank == 0:
            with pytest.raises(LostWorkerError, match=r"the line stood still for 0\.2 s"):
                line.entrant(torch.randn(1000)).call()
        done.wait()
        line.close()

    run_threads(worlds, work)
