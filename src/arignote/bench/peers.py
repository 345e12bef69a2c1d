"""What others offer, set up as their users would.

mpi     MPI_Allreduce through mpi4py, in place, and a multiplication by 1/p
gloo    torch.distributed.all_reduce over gloo, and the same multiplication
ddp     DistributedDataParallel over gloo (see `bench.step`)
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import psutil
import torch
import torch.distributed as dist

from arignote.bench.timing import Entrant
from arignote.comm.base import World
from arignote.comm.raw_mpi import RawMean
from arignote.exchange.routes.rendezvous import open_store


def least_wire_bytes(elements: int, workers: int) -> int:
    """What an allreduce of float32 must send a worker: neither peer tells what it does send."""
    return 2 * (workers - 1) * 4 * elements // workers


def mpi(vector: torch.Tensor, world: World) -> Entrant:
    """MPI's own."""
    mean = RawMean(vector)
    sent = least_wire_bytes(vector.numel(), world.size)

    def call() -> int:
        mean()
        return sent

    return Entrant("mpi", call)


def gloo(vector: torch.Tensor, world: World) -> Entrant:
    """PyTorch's own, on CPUs."""
    scale = 1 / world.size
    sent = least_wire_bytes(vector.numel(), world.size)

    def call() -> int:
        dist.all_reduce(vector)
        vector.mul_(scale)
        return sent

    return Entrant("gloo", call)


PEERS: dict[str, Callable[[torch.Tensor, World], Entrant]] = {"mpi": mpi, "gloo": gloo}


def join_gloo(world: World) -> Any:
    """Make torch.distributed's default group of all workers; collective.

    Between hosts gloo is told the interface that leads to the others, unless the user did.

    Returns:
        The group's store, to be kept until `leave_gloo`.
    """
    store, address = open_store(world, "gloo")
    interface = _interface_of(address)
    if interface is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    dist.init_process_group("gloo", store=store, rank=world.rank, world_size=world.size)
    return store


def _interface_of(address: str) -> str | None:
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in entries):
            return name
    return None


def leave_gloo(world: World) -> None:
    """Take the group down; worker 0 holds the store until all have."""
    world.meet([], "the end of gloo")
    dist.destroy_process_group()
    world.meet([], "the end of gloo")
