"""allreduce: the MPI library's own allreduce over the whole flat vector.

Theano-MPI's `ar`. Bytes: an allreduce that wastes nothing sends 2 (p-1)/p * n bytes a worker
(Rabenseifner; Patarasuk and Yuan 2009); which algorithm the library takes is its own choice,
so that lower bound is what we report. So is its order of summation: with two workers the bits
are those of every route, with more they may differ in the last place.
"""

from __future__ import annotations

import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.config.devices import ACCELERATOR, CPU
from arignote.exchange.base import Codec, Route, State


class Allreduce(Route):
    """MPI_Allreduce, straight from a GPU's memory where the MPI is CUDA-aware."""

    name = "allreduce"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        # Between more, MPI chooses another order for vectors of another length.
        self.cuts = world.size == 2

    def allocate(self, elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Plain memory; the first on a device finds out whether MPI takes it as it is."""
        found = self.world.device_buffers(device)
        if found is not None:
            self.device_reason = found.reason
            if found.taken:
                self.devices = (CPU, ACCELERATOR)  # type: ignore[misc]
        return super().allocate(elements, dtype, device)

    def twin(self, world: World) -> Allreduce:
        """See `Route.twin`."""
        other = Allreduce(world)
        other.devices = self.devices  # type: ignore[misc]
        return other

    def mean_(self, vector: torch.Tensor, codec: Codec, state: State, what: str) -> int:
        """One allreduce, one multiplication; see `Route.mean_`."""
        workers = self.world.size
        if accelerator.is_one(vector.device):
            accelerator.settle(vector.device)
        self.world.sum_(vector, what)
        vector.mul_(1 / workers)
        return 2 * (workers - 1) * vector.numel() * vector.element_size() // workers
