"""Where each worker computes: its device, by its place on its host, and its CPUs.

Workers on GPUs are not bound by the launcher, which knows nothing of GPUs: they bind themselves to
cores near theirs (`topology/sharing.py`), shared out among the workers of the host, together with
what they have started already, their loaders. Memory needs no more than that: Linux takes a page
from the node of the core that touches it first, and all that is large is touched later.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.config.devices import ACCELERATOR, CPU, any_accelerator, device_of, number_of
from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.topology.machine import Machine, allowed_cpus, parse_cpus, write_cpus
from arignote.topology.sharing import Share, share_cpus

_WHAT = "the placement of the workers"
_ELSEWHERE = "another program has bound the workers of this host one by one"


@dataclass(frozen=True)
class Location:
    """Where one worker computes."""

    rank: int
    host: str
    device: str
    """As torch calls it there."""
    name: str
    """Of the accelerator; empty: the CPU."""
    identity: str
    """The same for one accelerator in every process of a host; empty: the CPU."""
    cpus: str
    """That it may use, as in `0-3,8`."""
    cores: int
    """In them."""
    nodes: list[int]
    """NUMA nodes that they are of."""
    bound: bool
    """Whether it has bound itself near its accelerator."""
    remark: str
    """Why it has not, though it should have."""


def neighbours(world: World, rank: int) -> list[int]:
    """The ranks on the host of `rank`, in order."""
    host = world.peers[rank].host
    return [other for other, peer in enumerate(world.peers) if peer.host == host]


def pick_device(devices: Sequence[str], world: World) -> torch.device:
    """This worker's device.

    Raises:
        UserError: it is not on this host.
    """
    wanted, rank = device_of(devices, world.rank), world.rank
    if not any_accelerator([wanted]):
        return torch.device(wanted)
    problem, count = accelerator.why_none(), accelerator.count()
    if problem:
        raise UserError(f"{world.peers[rank]} cannot use device {wanted}: {problem}")
    number = number_of(devices, rank, neighbours=neighbours(world, rank), visible=count)
    if number >= count:
        has = "one GPU" if count == 1 else f"{count} GPUs"
        raise UserError(
            f"{world.peers[rank]} cannot use device {wanted}: it sees {has} there; use "
            f"--devices {ACCELERATOR}, which shares out what each host has"
        )
    device = torch.device(ACCELERATOR, number)
    accelerator.use(device)
    return device


def locate(
    world: World,
    launch: Launch,
    *,
    children: Sequence[int] = (),
    machine: Machine | None = None,
) -> list[Location]:
    """Take a device, bind this worker if it should be, and tell where all workers are; collective.

    Args:
        children: processes of this worker, which are bound with it.
        machine: what it runs on; another one in tests.

    Raises:
        UserError: as `pick_device`.
    """
    machine = machine or Machine()
    device = _agreed_device(launch.devices, world)
    gpu = accelerator.is_one(device)
    share = Share(frozenset())
    if launch.bind and any_accelerator(launch.devices):
        share = _own_share(world, machine, accelerator.pci_address(device) if gpu else None)
    if share.cpus:
        bind(share.cpus, children)
    cpus = share.cpus or allowed_cpus()
    mine = Location(
        rank=world.rank,
        host=world.peers[world.rank].host,
        device=str(device),
        name=accelerator.name(device.index) if gpu else "",
        identity=accelerator.identity(device) if gpu else "",
        cpus=write_cpus(cpus),
        cores=len(machine.cores(cpus)),
        nodes=[node.number for node in machine.nodes() if node.cpus & cpus],
        bound=bool(share.cpus),
        remark=share.reason,
    )
    return [Location(**found) for found in world.gather(asdict(mine), _WHAT)]


def _agreed_device(devices: Sequence[str], world: World) -> torch.device:
    """This worker's device, if all have theirs; else all fail alike, also where the launcher is."""
    device, problem = torch.device(CPU), ""
    try:
        device = pick_device(devices, world)
    except UserError as error:
        problem = str(error)
    for text in world.gather(problem, _WHAT):
        if text:
            raise UserError(text)
    return device


def _own_share(world: World, machine: Machine, address: str | None) -> Share:
    """Which CPUs this worker is to have; all workers of the host come to the same shares."""
    mine: dict[str, Any] = {"address": address, "cpus": write_cpus(allowed_cpus())}
    everybodys = world.gather(mine, _WHAT)
    here = neighbours(world, world.rank)
    if len({everybodys[rank]["cpus"] for rank in here}) > 1:
        return Share(frozenset(), _ELSEWHERE)
    addresses = [everybodys[rank]["address"] for rank in here]
    return share_cpus(machine, addresses, parse_cpus(mine["cpus"]))[here.index(world.rank)]


def bind(cpus: frozenset[int], children: Sequence[int] = ()) -> None:
    """Let all threads of this process, and of `children`, run on these CPUs only."""
    for process in ("self", *map(str, children)):
        for thread in Path(f"/proc/{process}/task").glob("[0-9]*"):
            # It may have ended meanwhile.
            with suppress(OSError):
                os.sched_setaffinity(int(thread.name), cpus)


def sharers(locations: Sequence[Location], rank: int) -> list[int]:
    """The ranks of all workers that compute on the device of `rank`, it among them."""
    own = locations[rank]
    return [
        other.rank
        for other in locations
        if (other.host, other.identity or other.rank) == (own.host, own.identity or own.rank)
    ]
