"""How fast messages go from host to host: one worker a host, one pair after the other, so that no
two share a line; over MPI, as in training.

In a pair the first leads and the second does what it is told, so the first holds all times:

ping    an empty question, and the second's clock as the answer: latency and clock offset
push    so many bytes there, an empty answer: the rate there
pull    the same back

Sizes double until one transfer takes long enough to be told from the latency, or is a few MB: a
slow link is not kept busy for minutes, and what a shaped link lets through at once does not count.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable

import torch

from arignote import accelerator
from arignote.bench.link_report import Device, Link, Rank
from arignote.comm.base import World
from arignote.comm.cuda_aware import cuda_aware

_ORDER, _ANSWER, _LOAD = 11, 12, 13
_PING, _PUSH, _PULL, _END = range(4)
_PINGS = 20
_LEAST_BYTES, _MOST_BYTES = 256 * 1024, 8 * 1024 * 1024
_ENOUGH_SECONDS = 0.25
_NAP_SECONDS = 0.005


def pairs(size: int) -> list[tuple[int, int]]:
    """All pairs of `size` ranks, the first before the second; neighbours in the ring come first,
    so that every host has been measured when time is over early.
    """
    found: dict[tuple[int, int], None] = {}
    for distance in range(1, size // 2 + 1):
        for rank in range(size):
            other = (rank + distance) % size
            found[min(rank, other), max(rank, other)] = None
    return list(found)


def measure(world: World, seconds: float) -> tuple[list[Link], int]:
    """The links, the same on all ranks, and how many pairs had no time; collective.

    Args:
        seconds: no pair is begun after that.

    Raises:
        LostWorkerError: somebody did not answer within the world's `timeout_seconds`.
    """
    begun = time.monotonic()
    own: list[Link] = []
    left = pairs(world.size)
    while left:
        over = world.rank == 0 and time.monotonic() - begun > seconds
        if world.meet([float(over)], "the next link")[0]:
            break
        first, second = left.pop(0)
        if world.rank == first:
            own.append(_Leader(world, second).measure())
        elif world.rank == second:
            _follow(world, first)
        _meet_asleep(world)
    everybodys = world.gather([link.model_dump() for link in own], "the links")
    return [Link(**link) for links in everybodys for link in links], len(left)


def _meet_asleep(world: World) -> None:
    """Meet, and leave the core to others until then: hosts may be emulated on a few of them."""
    meeting = world.open_meeting([])
    deadline = time.monotonic() + world.timeout_seconds
    while not meeting.done() and time.monotonic() < deadline:
        time.sleep(_NAP_SECONDS)
    world.close_meeting(meeting, "the end of a link")


class _Leader:
    """The first of a pair."""

    def __init__(self, world: World, other: int) -> None:
        self._world = world
        self._other = other
        self._what = f"the link {world.peers[world.rank].host} - {world.peers[other].host}"

    def measure(self) -> Link:
        """All of this link."""
        # What comes first opens the connections.
        self._push(_LEAST_BYTES)
        self._pull(_LEAST_BYTES)
        trips = [self._ping() for _ in range(_PINGS)]
        link = Link(
            first=self._world.rank,
            second=self._other,
            there_mbit=_rate_mbit(self._push),
            back_mbit=_rate_mbit(self._pull),
            latency_us=statistics.median(trip for trip, _ in trips) / 2 * 1e6,
            # The quickest trip leaves the least room for a mistake.
            clock_seconds=min(trips)[1],
        )
        self._order(_END, 0)
        return link

    def _order(self, kind: int, size: int) -> None:
        wire = torch.tensor([kind, size], dtype=torch.int64)
        self._world.wait([self._world.send(wire, self._other, _ORDER)], self._what)

    def _answer(self) -> float:
        wire = torch.zeros(1, dtype=torch.float64)
        self._world.wait([self._world.receive(wire, self._other, _ANSWER)], self._what)
        return float(wire.item())

    def _ping(self) -> tuple[float, float]:
        """(seconds of the round trip, seconds by which the other's clock is ahead)."""
        before, begun = time.time(), time.perf_counter()
        self._order(_PING, 0)
        there = self._answer()
        trip = time.perf_counter() - begun
        return trip, there - (before + trip / 2)

    def _push(self, size: int) -> float:
        load = torch.zeros(size, dtype=torch.uint8)
        self._order(_PUSH, size)
        begun = time.perf_counter()
        self._world.wait([self._world.send(load, self._other, _LOAD)], self._what)
        self._answer()
        return time.perf_counter() - begun

    def _pull(self, size: int) -> float:
        load = torch.zeros(size, dtype=torch.uint8)
        request = self._world.receive(load, self._other, _LOAD)
        begun = time.perf_counter()
        self._order(_PULL, size)
        self._world.wait([request], self._what)
        return time.perf_counter() - begun


def _rate_mbit(transfer: Callable[[int], float]) -> float:
    """By the last of the transfers of doubling sizes."""
    size = _LEAST_BYTES
    while (lasted := transfer(size)) < _ENOUGH_SECONDS and size < _MOST_BYTES:
        size *= 2
    return size * 8 / lasted / 1e6


def _follow(world: World, leader: int) -> None:
    """Do what the first of the pair asks for, to the end."""
    what = f"the link {world.peers[leader].host} - {world.peers[world.rank].host}"
    while True:
        order = torch.zeros(2, dtype=torch.int64)
        world.wait([world.receive(order, leader, _ORDER)], what)
        kind, size = order.tolist()
        if kind == _END:
            return
        load = torch.zeros(size, dtype=torch.uint8)
        if kind == _PUSH:
            world.wait([world.receive(load, leader, _LOAD)], what)
        if kind == _PULL:
            world.wait([world.send(load, leader, _LOAD)], what)
            continue
        clock = torch.tensor([time.time()], dtype=torch.float64)
        world.wait([world.send(clock, leader, _ANSWER)], what)


def own_rank() -> Rank:
    """What this worker finds on its host."""
    devices = []
    for index in range(accelerator.count()):
        free, total = accelerator.memory_bytes(index)
        name = accelerator.name(index)
        devices.append(Device(name=name, free_gib=free / 2**30, gib=total / 2**30))
    return Rank(node=platform.node(), cuda_aware=cuda_aware(), devices=devices)
