"""asa: alltoall - sum - allgather, the paper's own exchange, by chunks in both directions.

Worker r owns the r-th of p slices. Everybody sends it their values of that slice (alltoall),
it adds them up in float32 in the order of the ranks, and sends the mean to all (allgather):

    sends 2 (p-1)/p * n values a worker, in the codec's format: what any allreduce must send

Theano-MPI's asa32 and asa16 (arXiv 1605.08325, section 3.2). We differ: any p, any n; a chunk
is summed and on its way back while the next ones still arrive, so the line is busy both ways.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from arignote.comm.base import Request, World
from arignote.exchange.base import Codec, Route, State, cut

CHUNK = 1 << 16
"""Elements that are sent at a time."""
AHEAD = 4
"""Chunks that are under way before the first of them is waited for."""
_ALIGN = 1024
_SCATTER, _GATHER = 1, 2


class ASA(Route):
    """Point-to-point messages of any MPI."""

    name = "asa"
    cuts = True
    shards = True
    needs_meeting = False

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._scratch: dict[tuple[str, int, int], torch.Tensor] = {}

    def own_slice(self, elements: int) -> slice:
        """The rank-th of p nearly equal parts."""
        return cut(elements, self.world.size, _ALIGN)[self.world.rank]

    def new_state(self, elements: int, codec: Codec) -> State:
        """A worker encodes the whole vector, an owner its slice of the mean."""
        own = self.own_slice(elements)
        return State(
            worker=torch.zeros(codec.worker_rows, elements),
            owner=torch.zeros(codec.owner_rows, own.stop - own.start),
            owner_start=own.start,
            encoders=self.world.size,
        )

    def mean_(self, vector: torch.Tensor, codec: Codec, state: State, what: str) -> int:
        """See `Route.mean_`."""
        return _Round(self, vector, codec, state, what).run()

    def reduce_scatter_(self, vector: torch.Tensor, what: str) -> int:
        """The alltoall and the sum."""
        return _Round(self, vector, None, None, what).run(gather=False)

    def all_gather_(self, vector: torch.Tensor, what: str) -> int:
        """The allgather."""
        return _Round(self, vector, None, None, what).run(scatter=False)

    def scratch(self, kind: str, number: int, dtype: torch.dtype, size: int) -> torch.Tensor:
        """Memory that is kept from round to round."""
        key = (f"{kind} {dtype}", number, 0)
        if key not in self._scratch or self._scratch[key].numel() < size:
            self._scratch[key] = torch.empty(size, dtype=dtype)
        return self._scratch[key][:size]


class _Round:
    """One vector on its way; every worker goes through the chunks in the same order."""

    def __init__(
        self, route: ASA, vector: torch.Tensor, codec: Codec | None, state: State | None, what: str
    ) -> None:
        self.route, self.world = route, route.world
        self.vector, self.what = vector, what
        self.codec = None if codec is None or codec.lossless else codec
        self.state = state
        block = math.lcm(_ALIGN, self.codec.block if self.codec else 1)
        self.slices = cut(vector.numel(), self.world.size, block)
        # Each begins with its neighbour, so that not all send to worker 0 at first.
        rank, size = self.world.rank, self.world.size
        self.others = [(rank + step) % size for step in range(1, size)]
        self.sent: dict[int, list[Request]] = {}
        self.scattered: dict[int, list[Request]] = {}
        self.gathered: dict[int, list[Request]] = {}
        self.wire_bytes: int = 0
        self.scatters = True

    def run(self, *, scatter: bool = True, gather: bool = True) -> int:
        """All chunks: scatter c + 2 AHEAD, sum c + AHEAD and take in c at a time."""
        self.scatters = scatter
        chunks = max(-(-(part.stop - part.start) // CHUNK) for part in self.slices)
        for turn in range(chunks + 2 * AHEAD):
            if scatter and turn < chunks:
                self._scatter(turn)
            if 0 <= turn - AHEAD < chunks:
                if scatter:
                    self._sum(turn - AHEAD)
                if gather:
                    self._gather(turn - AHEAD)
            if gather and turn >= 2 * AHEAD:
                self._take_in(turn - 2 * AHEAD)
        self.world.wait([r for requests in self.sent.values() for r in requests], self.what)
        return self.wire_bytes

    def _chunk(self, owner: int, number: int) -> slice:
        part = self.slices[owner]
        start = min(part.start + number * CHUNK, part.stop)
        return slice(start, min(start + CHUNK, part.stop))

    def _send(self, wire: torch.Tensor, to: int, tag: int, number: int) -> None:
        self.sent.setdefault(number, []).append(self.world.send(wire, to, tag))
        self.wire_bytes += wire.numel() * wire.element_size()

    def _wire(self, kind: str, rank: int, number: int, size: int) -> torch.Tensor:
        slot = rank + self.world.size * (number % (2 * AHEAD + 1))
        return self.route.scratch(kind, slot, torch.uint8, size)

    def _scatter(self, number: int) -> None:
        """Send chunk `number` of every other owner's slice, and expect one's own from all."""
        own = self._chunk(self.world.rank, number)
        size = own.stop - own.start
        if size:
            self.scattered[number] = [
                self.world.receive(self._landing(rank, number, size), rank, _SCATTER)
                for rank in self.others
            ]
        for rank in self.others:
            chunk = self._chunk(rank, number)
            if chunk.stop > chunk.start:
                self._send(self._encoded(chunk, rank, number), rank, _SCATTER, number)

    def _landing(self, rank: int, number: int, size: int) -> torch.Tensor:
        """Where another worker's values of one's own chunk arrive."""
        if self.codec:
            return self._wire("in", rank, number, self.codec.wire_bytes(size))
        slot = rank + self.world.size * (number % (2 * AHEAD + 1))
        return self.route.scratch("in", slot, self.vector.dtype, size)

    def _encoded(self, chunk: slice, rank: int, number: int) -> torch.Tensor:
        """What is sent of `chunk`: the vector's own memory where nothing is lost."""
        if not self.codec:
            return self.vector[chunk]
        assert self.state is not None
        wire = self._wire("out", rank, number, self.codec.wire_bytes(chunk.stop - chunk.start))
        state = self.state.worker[:, chunk]
        self.codec.encode(self.vector[chunk], wire, state, self._seed(chunk, 0))
        return wire

    def _seed(self, chunk: slice, stage: int) -> int:
        """Another one for every round, chunk, worker and stage."""
        assert self.state is not None
        mixed: int = (self.state.rounds * 1_000_003 + chunk.start) * 1_000_003 + self.world.rank
        return (2 * mixed + stage) & (2**63 - 1)

    def _sum(self, number: int) -> None:
        """Wait for everybody's values of one's own chunk, and put their mean in its place."""
        own = self._chunk(self.world.rank, number)
        size = own.stop - own.start
        if not size:
            return
        self.world.wait(self.scattered.pop(number), self.what)
        total: torch.Tensor | None = None
        for values in self._everybodys(own, number):
            if total is None:
                total = self.route.scratch("total", 0, values.dtype, size).copy_(values)
            else:
                total.add_(values)
        assert total is not None
        torch.mul(total, 1 / self.world.size, out=self.vector[own])

    def _everybodys(self, own: slice, number: int) -> Iterator[torch.Tensor]:
        """The values of one's own chunk, worker by worker in the order of the ranks."""
        size = own.stop - own.start
        for rank in range(self.world.size):
            if rank == self.world.rank and not (self.codec and self.codec.worker_rows):
                yield self.vector[own]
                continue
            if rank == self.world.rank:
                arrived = self._encoded(own, rank, number)
            else:
                arrived = self._landing(rank, number, size)
            if self.codec:
                values = self.route.scratch("decoded", 0, torch.float32, size)
                self.codec.decode(arrived, values)
                yield values
            else:
                yield arrived

    def _gather(self, number: int) -> None:
        """Send the mean of one's own chunk to all, and expect theirs."""
        # MPI forbids to receive into memory that is still being sent.
        self.world.wait(self.sent.pop(number, []), self.what)
        own = self._chunk(self.world.rank, number)
        if own.stop > own.start:
            wire = self._encoded_mean(own, number)
            for rank in self.others:
                self._send(wire, rank, _GATHER, number)
        self.gathered[number] = [
            self.world.receive(self._mean_landing(rank, number), rank, _GATHER)
            for rank in self.others
            if self._chunk(rank, number).stop > self._chunk(rank, number).start
        ]

    def _mean_landing(self, rank: int, number: int) -> torch.Tensor:
        chunk = self._chunk(rank, number)
        if not self.codec:
            return self.vector[chunk]
        size = self.codec.mean_wire_bytes(chunk.stop - chunk.start, self.world.size)
        return self._wire("mean in", rank, number, size)

    def _encoded_mean(self, own: slice, number: int) -> torch.Tensor:
        """What is sent of the mean; one goes on with what the others will decode."""
        values = self.vector[own]
        if not self.codec:
            return values
        assert self.state is not None
        size, workers = own.stop - own.start, self.world.size
        wire = self._wire(
            "mean out", self.world.rank, number, self.codec.mean_wire_bytes(size, workers)
        )
        begin = own.start - self.state.owner_start
        state = self.state.owner[:, begin : begin + size]
        self.codec.encode_mean(values, wire, state, self._seed(own, 1), workers)
        self.codec.decode_mean(wire, values, workers)
        return wire

    def _take_in(self, number: int) -> None:
        """Wait for the means of the other slices' chunks."""
        self.world.wait(self.gathered.pop(number), self.what)
        if not self.codec:
            return
        for rank in self.others:
            chunk = self._chunk(rank, number)
            if chunk.stop > chunk.start:
                wire = self._mean_landing(rank, number)
                self.codec.decode_mean(wire, self.vector[chunk], self.world.size)
