"""shm: the workers of one host sum in each other's memory, in place.

All gradients live in memory that all workers of the host have mapped, a row a worker. Worker r
takes the r-th slice of every row, block by block in its cache, and writes the mean back into
all of them: every byte is read once and written once, nothing is copied in or out.

    reads n, writes n elements a worker (a copy of the vector: reads n, writes n)

Theano-MPI's nearest are the exchanges over CUDA IPC inside a node; MPI's own shared windows
would do as well, but see `comm.shared_memory` for what becomes of them when a worker dies.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from arignote.comm.base import World
from arignote.comm.shared_memory import SharedRows
from arignote.errors import UserError
from arignote.exchange.base import Codec, Route, State, cut
from arignote.exchange.jit import jit

ALIGN = 1024
"""Slices begin at multiples of it, so that no two workers write the same cache line."""


@jit
def mean_of_rows(rows: Any, start: int, stop: int, scale: Any, to: int) -> None:
    """(rows[0] + rows[1] + ...) * scale over [start, stop), into row `to`; -1: into all."""
    count = rows.shape[0]
    if count == 2:
        # One pass, all in registers: a fifth faster, and two workers are the commonest number.
        first = rows[0, start:stop]
        second = rows[1, start:stop]
        target = first if to < 1 else second
        for i in range(first.size):
            mean = (first[i] + second[i]) * scale
            target[i] = mean
            if to == -1:
                second[i] = mean
        return
    total = np.empty(4096, dtype=rows.dtype)
    for low in range(start, stop, 4096):
        high = min(low + 4096, stop)
        t = total[: high - low]
        first = rows[0, low:high]
        second = rows[1, low:high]
        for i in range(t.size):
            t[i] = first[i] + second[i]
        for q in range(2, count):
            row = rows[q, low:high]
            for i in range(t.size):
                t[i] += row[i]
        for i in range(t.size):
            t[i] *= scale
        for q in range(count):
            if to in (-1, q):
                row = rows[q, low:high]
                for i in range(t.size):
                    row[i] = t[i]


class HostMemory:
    """The vectors of one host's workers, in memory that all of them have mapped."""

    def __init__(self, world: World, blocks: list[SharedRows] | None = None) -> None:
        self.world = world
        self._blocks: list[SharedRows] = [] if blocks is None else blocks
        self._staging: dict[tuple[int, torch.dtype], SharedRows] = {}

    def allocate(self, elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """This worker's row of shared memory; plain memory where nobody could share it."""
        if device.type != "cpu" or self.world.size == 1:
            return torch.zeros(elements, dtype=dtype, device=device)
        self._blocks.append(SharedRows(self.world, elements, dtype))
        return self._blocks[-1].own

    def find(self, vector: torch.Tensor) -> tuple[SharedRows, int] | None:
        """The block that `vector` lies in, and where it begins there."""
        for block in self._blocks:
            offset = block.offset(vector)
            if offset is not None:
                return block, offset
        return None

    @contextmanager
    def place(self, vector: torch.Tensor, what: str) -> Iterator[tuple[SharedRows, int]]:
        """As `find`; one from elsewhere is copied in (all wait for all), and back at the end."""
        found = self.find(vector)
        if found:
            yield found
            return
        key = (vector.numel(), vector.dtype)
        if key not in self._staging:
            self._staging[key] = SharedRows(self.world, *key)
        block = self._staging[key]
        block.own.copy_(vector)
        self.world.meet([], what)
        yield block, 0
        vector.copy_(block.own)

    def spread(self, block: SharedRows, start: int, stop: int) -> None:
        """Write [start, stop) of this worker's row into everybody's."""
        rows = block.rows()
        own = rows[self.world.rank, start:stop]
        for rank in range(self.world.size):
            if rank != self.world.rank:
                rows[rank, start:stop] = own

    def twin(self, world: World) -> HostMemory:
        """The same memory for another thread, which stages vectors of its own."""
        return HostMemory(world, self._blocks)


class SharedMemory(Route):
    """In place, in memory of one host."""

    name = "shm"
    cuts = True
    shards = True

    def __init__(self, world: World, memory: HostMemory | None = None) -> None:
        super().__init__(world)
        hosts = sorted({peer.host for peer in world.peers})
        if len(hosts) > 1:
            raise UserError(
                f"shm is memory of one host, and the workers are on {', '.join(hosts)}: use "
                "hier:fp32 (shm inside each host), or asa:fp32"
            )
        self._memory = memory or HostMemory(world)

    def allocate(self, elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """This worker's row of shared memory; see `Route.allocate`."""
        return self._memory.allocate(elements, dtype, device)

    def own_slice(self, elements: int) -> slice:
        """The rank-th of p nearly equal parts."""
        return cut(elements, self.world.size, ALIGN)[self.world.rank]

    def mean_(self, vector: torch.Tensor, codec: Codec, state: State, what: str) -> int:
        """Sum one's slice of everybody's vector; no byte goes over a wire."""
        with self._memory.place(vector, what) as (block, offset):
            self._reduce(block, offset, vector.numel(), to=-1)
            self.world.meet([], what)
        return 0

    def reduce_scatter_(self, vector: torch.Tensor, what: str) -> int:
        """Sum one's slice of everybody's vector into one's own."""
        found = self._memory.find(vector)
        assert found is not None
        self._reduce(*found, vector.numel(), to=self.world.rank)
        return 0

    def all_gather_(self, vector: torch.Tensor, what: str) -> int:
        """Write one's slice into everybody's vector.

        The closing meeting also ends the reading of gradients by `reduce_scatter_`.
        """
        found = self._memory.find(vector)
        assert found is not None
        block, offset = found
        part = self.own_slice(vector.numel())
        self._memory.spread(block, offset + part.start, offset + part.stop)
        self.world.meet([], what)
        return 0

    def _reduce(self, block: SharedRows, offset: int, elements: int, *, to: int) -> None:
        part = self.own_slice(elements)
        rows = block.rows()
        scale = rows.dtype.type(1 / self.world.size)
        mean_of_rows(rows, offset + part.start, offset + part.stop, scale, to)

    def twin(self, world: World) -> Route:
        """Over the same memory."""
        return SharedMemory(world, self._memory.twin(world))
