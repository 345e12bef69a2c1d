"""nccl: NVIDIA's library sums between the GPUs, inside a host and between hosts.

One allreduce over the whole flat vector, straight from the memory of the GPUs; in which order it
adds is NCCL's own choice, so the last place may differ from our other routes':

    sends 2 (p-1)/p * n values a worker, in the codec's format

Theano-MPI's nccl32 and nccl16. We differ: several hosts; one call a step, not one a tensor; fp16
is scaled before the sum (see `process_group`, which also starts NCCL without any setting).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.config.devices import ACCELERATOR
from arignote.errors import LostWorkerError, UserError
from arignote.exchange.routes.gpu import check_accelerators, check_devices
from arignote.exchange.routes.process_group import ProcessGroupRoute, dist
from arignote.exchange.routes.rendezvous import interface_of

_INTERFACE = "NCCL_SOCKET_IFNAME"


class NCCL(ProcessGroupRoute):
    """A GPU of its own for every worker."""

    name = "nccl"
    devices = (ACCELERATOR,)
    device_reason = "NCCL moves the memory of devices"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        check_accelerators(self.name, world)
        missing = world.gather(not dist.is_nccl_available(), "the start of nccl")
        if any(missing):
            raise UserError(
                f"the torch of {world.peers[missing.index(True)]} is built without NCCL: use "
                "allreduce:fp32"
            )

    def _check(self, device: torch.device) -> None:
        """A GPU for every worker, and one of its own."""
        check_devices(self.name, self.world, device, self.devices)
        here = self.world.peers[self.world.rank].host
        names = self.world.gather(
            f"{accelerator.identity(device)} of host {here}", "the start of nccl"
        )
        for rank, name in enumerate(names):
            if name in names[:rank]:
                raise UserError(
                    f"nccl cannot serve two workers on one GPU, and workers {names.index(name)} "
                    f"and {rank} share {name}: use ipc:fp32 or allreduce:fp32"
                )

    def _open(self, store: Any, address: str, device: torch.device) -> Any:
        """The group, and a first sum, so that NCCL connects now."""
        with _told_of(address, alone=len({peer.host for peer in self.world.peers}) == 1):
            group = dist.ProcessGroupNCCL(store, self.world.rank, self.world.size, self._timeout())
            self._finish(group.allreduce([torch.zeros(1, device=device)]), "the start of nccl")
        return group

    def _finish(self, work: Any, what: str) -> None:
        """Wait for the GPU itself, asking often: what follows may trust and time it."""
        deadline = time.monotonic() + self.world.timeout_seconds
        while not work.is_completed():
            if time.monotonic() > deadline:
                raise LostWorkerError(
                    f"a worker did not do its part in {what} within "
                    f"{self.world.timeout_seconds:g} s, as far as nccl knows; look at the other "
                    "workers, or raise train.timeout_seconds"
                )
            time.sleep(0)
        work.wait()


@contextmanager
def _told_of(address: str, *, alone: bool) -> Iterator[None]:
    """Inside, NCCL begins on the interface by which the other hosts were reached.

    Left alone it takes the first one that it likes, also one that leads nowhere; what a user has
    set counts.
    """
    name = "" if alone or _INTERFACE in os.environ else interface_of(address)
    if not name:
        yield
        return
    os.environ[_INTERFACE] = f"={name}"
    try:
        yield
    finally:
        os.environ.pop(_INTERFACE, None)
