"""What the routes between GPUs have in common: what they refuse, and memory that they share."""

from __future__ import annotations

from uuid import uuid4
from weakref import WeakValueDictionary

import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.config.devices import VISIBLE
from arignote.errors import UserError

_PROCESS = uuid4().hex
_SHARED: WeakValueDictionary[str, torch.Tensor] = WeakValueDictionary()
"""Vectors of this process that other threads of it may look for."""


def check_accelerators(route: str, world: World) -> None:
    """Collective: can every worker's torch compute on a GPU?

    Raises:
        UserError: one cannot; says which, and what works without.
    """
    _refuse(route, world, world.gather(accelerator.why_none(), f"the start of {route}"))


def check_devices(route: str, world: World, device: torch.device, allowed: tuple[str, ...]) -> None:
    """Collective: is every worker's vector on a device that the route takes?

    Raises:
        UserError: one is not.
    """
    problem = "" if device.type in allowed else f"its vector is on {device}"
    _refuse(route, world, world.gather(problem, f"the start of {route}"))


def _refuse(route: str, world: World, problems: list[str]) -> None:
    hosts = len({peer.host for peer in world.peers})
    for peer, problem in zip(world.peers, problems, strict=True):
        if problem:
            raise UserError(
                f"{route} needs every worker on a GPU, and {peer} has none: {problem}; on CPUs use "
                f"{'asa' if hosts > 1 else 'shm'}:fp32"
            )


def share(world: World, vector: torch.Tensor) -> list[torch.Tensor]:
    """Everybody's `vector`, by rank; collective.

    Raises:
        UserError: a worker does not see the GPU of another.
    """
    what = "sharing the memory of GPUs"
    key = uuid4().hex
    _SHARED[key] = vector
    processes = world.gather(_PROCESS, what)
    # One loan for each that opens it: torch counts who still uses the memory.
    mine = processes[world.rank]
    away = [str(rank) for rank, process in enumerate(processes) if process != mine]
    loans = {rank: accelerator.lend(vector) for rank in away}
    offers = world.gather({"key": key, "loans": loans}, what)
    vectors, problem = [], ""
    for rank, offer in enumerate(offers):
        if processes[rank] == mine:
            vectors.append(_SHARED[offer["key"]])
            continue
        try:
            vectors.append(accelerator.borrow(offer["loans"][str(world.rank)], vector))
        except (LookupError, RuntimeError) as error:
            problem = f"worker {world.rank} cannot open the memory of worker {rank}'s GPU ({error})"
            break
    for text in world.gather(problem, what):
        if text:
            raise UserError(
                f"{text}: let every worker see all GPUs of the host ({VISIBLE}), or use "
                "allreduce:fp32"
            )
    return vectors
