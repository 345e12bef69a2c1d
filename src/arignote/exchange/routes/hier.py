"""hier: shared memory inside each host, asa between the hosts.

p workers on h hosts, at least l of them on each. The vector is cut into l columns. On every host
the c-th worker adds up column c of all workers there, in the order of their ranks; the c-th
workers of all hosts bring these sums together by asa, with the codec; each writes the mean of
its column into every vector of its host:

    x[c]  <-  (1/h) sum over hosts of (h/p) * (sum over the workers of a host of their x[c])

    sends 2 (h-1)/h * n/l values a worker to other hosts, in the codec's format; asa l times that

So a host sends as much as one worker alone would, whatever the number of workers, and l of them
keep the line busy. Inside a host no byte goes over a wire, and nothing is rounded by the
codec. The order of summation is the placement's: it may differ in the last place from asa's.

A reduction in levels of which each is cut among all workers below: Cho et al. 2019 (BlueConnect).
Theano-MPI's `copper` is the tree of one machine of 2, 4, 8 or 16 GPUs, silent on any other number;
we take any number of hosts and of workers, also unequal ones.
"""

from __future__ import annotations

import math
from collections import Counter

import torch

from arignote.comm.base import World
from arignote.exchange.base import Codec, Route, State, cut
from arignote.exchange.routes.asa import ASA
from arignote.exchange.routes.shm import ALIGN, HostMemory, SharedMemory, mean_of_rows


class Hierarchical(Route):
    """Two levels: the workers of a host, and the hosts."""

    name = "hier"
    cuts = True

    def __init__(self, world: World) -> None:
        super().__init__(world)
        workers = Counter(peer.host for peer in world.peers)
        hosts = list(workers)
        self._hosts = len(hosts)
        self._columns = min(workers.values())
        """How many workers of each host talk to the other hosts (l above)."""
        self._column = world.local_rank
        self._sums = self._column < self._columns
        self._inside = world.split(hosts.index(world.peers[world.rank].host))
        self._between = world.split(min(self._column, self._columns))
        self._memory = HostMemory(self._inside)
        self._shm = SharedMemory(self._inside, self._memory)
        self._asa = ASA(self._between)

    def allocate(self, elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Memory that the workers of this host share; see `Route.allocate`."""
        return self._memory.allocate(elements, dtype, device)

    def new_state(self, elements: int, codec: Codec) -> State:
        """asa's, of this worker's column; nothing where it has none."""
        part = self._part(elements, codec)
        state = self._asa.new_state(part.stop - part.start, codec)
        state.worker_start += part.start
        state.owner_start += part.start
        state.encoders = self._hosts
        return state

    def mean_(self, vector: torch.Tensor, codec: Codec, state: State, what: str) -> int:
        """See `Route.mean_`; counts what goes to other hosts."""
        if self._hosts == 1:
            return self._shm.mean_(vector, codec, state, what)
        scale = self._hosts / self.world.size
        if self._inside.size == 1:
            if scale != 1:
                vector.mul_(scale)
            return self._exchange(vector, slice(0, vector.numel()), codec, state, what)
        sent = 0
        with self._memory.place(vector, what) as (block, offset):
            if self._sums:
                part = self._part(vector.numel(), codec)
                start, stop = offset + part.start, offset + part.stop
                rows = block.rows()
                mean_of_rows(rows, start, stop, rows.dtype.type(scale), self._inside.rank)
                sent = self._exchange(block.own[start:stop], part, codec, state, what)
                self._memory.spread(block, start, stop)
            self._inside.meet([], what)
        return sent

    def _part(self, elements: int, codec: Codec) -> slice:
        """This worker's column of a vector; an empty one if it has none."""
        if not self._sums:
            return slice(0, 0)
        return cut(elements, self._columns, math.lcm(ALIGN, codec.block))[self._column]

    def _exchange(
        self, values: torch.Tensor, part: slice, codec: Codec, state: State, what: str
    ) -> int:
        """asa over the `values` of this column, which is `part` of the vector."""
        inner = State(
            worker=state.worker,
            owner=state.owner,
            owner_start=state.owner_start - part.start,
            encoders=self._hosts,
            # Another number for each column, so that no two of them round by the same dice.
            rounds=state.rounds * self._columns + self._column,
        )
        return self._asa.mean_(values, codec, inner, what)

    def twin(self, world: World) -> Route:
        """Over the same memory."""
        other = Hierarchical(world)
        other._memory = self._memory.twin(other._inside)
        other._shm = SharedMemory(other._inside, other._memory)
        return other

    def close(self) -> None:
        """Leave the worlds of the host and of the column."""
        self._between.close()
        self._inside.close()
