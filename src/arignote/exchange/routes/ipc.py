"""ipc: the workers of one host sum in the memory of each other's GPUs.

All gradients live in memory whose CUDA IPC handle the other workers have opened, so that each can
read and write everybody's, also where several workers share one GPU. Worker r takes the r-th slice
of all vectors, adds it up in the order of the ranks, block by block, and writes the mean into all:

    reads n, writes n elements a worker over NVLink or PCIe; no byte goes over a network

The GPU's form of `shm`, and the same bits. Theano-MPI moved tensors by CUDA IPC inside its MPI
library, and handed batches from its loaders that way; here no message carries a value at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.config.devices import ACCELERATOR
from arignote.errors import UserError
from arignote.exchange.base import Codec, Route, State, cut
from arignote.exchange.routes.gpu import check_accelerators, check_devices, share

_ALIGN = 1024
_BLOCK = 1 << 22
"""Elements that are summed at a time: what a worker needs beside the vectors."""


def mean_into_(
    parts: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], device: torch.device
) -> None:
    """(parts[0] + parts[1] + ...) * (1 / len(parts)) into every one of `targets`.

    Args:
        parts: every worker's values of one slice, by rank, each (elements,), on any device.
        targets: as `parts`; may be some of them.
        device: where to add up.
    """
    for start in range(0, parts[0].numel(), _BLOCK):
        block = slice(start, start + _BLOCK)
        total = parts[0][block].to(device, copy=True)
        for part in parts[1:]:
            total.add_(part[block].to(device))
        total.mul_(1 / len(parts))
        for target in targets:
            target[block].copy_(total)


class IPC(Route):
    """In place, in memory of the GPUs of one host."""

    name = "ipc"
    shards = True
    devices = (ACCELERATOR,)
    device_reason = "its workers share the memory of their devices"
    needs_meeting = False

    def __init__(self, world: World) -> None:
        super().__init__(world)
        hosts = sorted({peer.host for peer in world.peers})
        if len(hosts) > 1:
            raise UserError(
                f"ipc is memory of the GPUs of one host, and the workers are on "
                f"{', '.join(hosts)}: use nccl:fp32 or asa:fp32"
            )
        self._check()
        self._blocks: list[list[torch.Tensor]] = []
        """Everybody's vectors, by rank, for each that was allocated."""
        self._staging: dict[tuple[int, torch.dtype], list[torch.Tensor]] = {}

    def allocate(self, elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """GPU memory that the other workers have opened; see `Route.allocate`."""
        vector = super().allocate(elements, dtype, device)
        if self.world.size > 1 and elements:
            check_devices(self.name, self.world, device, self.devices)
            self._blocks.append(share(self.world, vector))
        return vector

    def own_slice(self, elements: int) -> slice:
        """The rank-th of p nearly equal parts."""
        return cut(elements, self.world.size, _ALIGN)[self.world.rank]

    def mean_(self, vector: torch.Tensor, codec: Codec, state: State, what: str) -> int:
        """Sum one's slice of everybody's vector into all of them."""
        vectors = self._find(vector)
        staged = vectors or self._stage(vector)
        self._meet(vector.device, what)
        parts = self._parts(staged)
        mean_into_(parts, parts, vector.device)
        self._meet(vector.device, what)
        if vectors is None:
            vector.copy_(staged[self.world.rank])
        return 0

    def reduce_scatter_(self, vector: torch.Tensor, what: str) -> int:
        """Sum one's slice of everybody's vector into one's own."""
        vectors = self._find(vector)
        assert vectors is not None
        self._meet(vector.device, what)
        parts = self._parts(vectors)
        mean_into_(parts, [parts[self.world.rank]], vector.device)
        self._settle(vector.device)
        return 0

    def all_gather_(self, vector: torch.Tensor, what: str) -> int:
        """Write one's slice into everybody's vector, which only this worker reads there."""
        vectors = self._find(vector)
        assert vectors is not None
        own = vector[self.own_slice(vector.numel())]
        for rank, part in enumerate(self._parts(vectors)):
            if rank != self.world.rank:
                part.copy_(own)
        self._meet(vector.device, what)
        return 0

    def _find(self, vector: torch.Tensor) -> list[torch.Tensor] | None:
        """Everybody's `vector`, by rank, if it lies in memory that was allocated here."""
        for block in self._blocks:
            own = block[self.world.rank]
            start = (vector.data_ptr() - own.data_ptr()) // own.element_size()
            if vector.dtype == own.dtype and 0 <= start < own.numel():
                return [theirs[start : start + vector.numel()] for theirs in block]
        return None

    def _stage(self, vector: torch.Tensor) -> list[torch.Tensor]:
        """A vector from elsewhere is copied into memory that all have opened."""
        key = (vector.numel(), vector.dtype)
        if key not in self._staging:
            check_devices(self.name, self.world, vector.device, self.devices)
            self._staging[key] = share(self.world, torch.empty_like(vector))
        self._staging[key][self.world.rank].copy_(vector)
        return self._staging[key]

    def _parts(self, vectors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        part = self.own_slice(vectors[0].numel())
        return [vector[part] for vector in vectors]

    def _meet(self, device: torch.device, what: str) -> None:
        """All workers' GPUs have done what these streams were told to before this."""
        self._settle(device)
        self.world.meet([], what)

    def _check(self) -> None:
        check_accelerators(self.name, self.world)

    def _settle(self, device: torch.device) -> None:
        accelerator.settle(device)

    def twin(self, world: World) -> Route:
        """Over the same memory."""
        other = type(self)(world)
        other._blocks = self._blocks
        return other

    def close(self) -> None:
        """Let go of everybody's memory, once nobody uses this worker's any more."""
        self.world.meet([], "the end of ipc")
        self._blocks, self._staging = [], {}
