"""Routes by a process group of torch.distributed, which starts from our own world.

Nothing is left for the user to set: the workers find each other by `rendezvous`. The group is
private: torch's default group stays the user's.

    sends 2 (p-1)/p * n values a worker: what any allreduce must send, and what we report

fp16 and bf16 are casts before the sum, which the library makes in that format. Values are scaled
by 1/p first, as torch's own compression hook does, so that the sum of float16 cannot overflow.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F

from arignote.comm.base import World
from arignote.errors import LostWorkerError
from arignote.exchange.base import Codec, Route, State
from arignote.exchange.routes.rendezvous import open_store

dist: Any = torch.distributed
"""Its types leave out what others build on."""
_WIRE_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class ProcessGroupRoute(Route):
    """The collectives of one backend; `_open` says of which."""

    shards = True
    needs_meeting = False

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._group: Any = None
        self._store: Any = None

    @abstractmethod
    def _open(self, store: Any, address: str, device: torch.device) -> Any:
        """The backend's group of all workers; `address` is this worker's for the others."""

    def _check(self, device: torch.device) -> None:
        """Raise a UserError, on all workers, if the backend cannot serve their devices."""

    def allocate(self, elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Plain memory; the first call starts the group, so that what is wrong is told now."""
        self._start(device)
        return super().allocate(elements, dtype, device)

    def own_slice(self, elements: int) -> slice:
        """The rank-th of p parts, of which the last ones may be shorter: the library's own cut."""
        share = -(-elements // self.world.size)
        start = min(self.world.rank * share, elements)
        return slice(start, min(start + share, elements))

    def mean_(self, vector: torch.Tensor, codec: Codec, state: State, what: str) -> int:
        """One allreduce; see `Route.mean_`."""
        workers, wire = self.world.size, vector
        if codec.name in _WIRE_DTYPES:
            wire = vector.mul(1 / workers).to(_WIRE_DTYPES[codec.name])
        self._run(vector.device, what, lambda group: group.allreduce([wire]))
        if wire is vector:
            vector.mul_(1 / workers)
        else:
            vector.copy_(wire)
        return 2 * (workers - 1) * wire.numel() * wire.element_size() // workers

    def reduce_scatter_(self, vector: torch.Tensor, what: str) -> int:
        """The library's reduce-scatter; a copy is padded where p does not divide n."""
        own, whole = self.own_slice(vector.numel()), self._padded(vector)
        part = whole.new_empty(whole.numel() // self.world.size)
        self._run(vector.device, what, lambda group: group._reduce_scatter_base(part, whole))
        torch.mul(part[: own.stop - own.start], 1 / self.world.size, out=vector[own])
        return (self.world.size - 1) * part.numel() * part.element_size()

    def all_gather_(self, vector: torch.Tensor, what: str) -> int:
        """The library's allgather, likewise."""
        own, whole = self.own_slice(vector.numel()), self._padded(vector)
        part = whole.new_zeros(whole.numel() // self.world.size)
        part[: own.stop - own.start] = vector[own]
        self._run(vector.device, what, lambda group: group._allgather_base(whole, part))
        if whole is not vector:
            vector.copy_(whole[: vector.numel()])
        return (self.world.size - 1) * part.numel() * part.element_size()

    def _padded(self, vector: torch.Tensor) -> torch.Tensor:
        rest = -vector.numel() % self.world.size
        return F.pad(vector, (0, rest)) if rest else vector

    def _start(self, device: torch.device) -> None:
        """Open the group, collective; once."""
        if self._group is not None or self.world.size == 1:
            return
        self._check(device)
        try:
            self._store, address = open_store(self.world, self.name)
            self._group = self._open(self._store, address, device)
        except RuntimeError as error:
            raise self._lost("its start", error) from error

    def _run(self, device: torch.device, what: str, call: Callable[[Any], Any]) -> None:
        """One collective to its end."""
        self._start(device)
        try:
            self._finish(call(self._group), what)
        except RuntimeError as error:
            raise self._lost(what, error) from error

    def _finish(self, work: Any, what: str) -> None:
        """Wait, blocked, until `work` is done."""
        work.wait(self._timeout())

    def _timeout(self) -> timedelta:
        return timedelta(seconds=self.world.timeout_seconds)

    def _lost(self, what: str, error: object) -> LostWorkerError:
        return LostWorkerError(
            f"a worker did not do its part in {what} within {self.world.timeout_seconds:g} s; "
            f"{self.name} says: {str(error).splitlines()[0]}"
        )

    def close(self) -> None:
        """Take the group down together, then the store, which worker 0 holds for all."""
        if self._group is None:
            return
        self.world.meet([], f"the end of {self.name}")
        # Older torches know it by another name.
        stop = getattr(self._group, "shutdown", None) or self._group._shutdown
        stop()
        self._group = None
        self.world.meet([], f"the end of {self.name}")
        self._store = None


class Gloo(ProcessGroupRoute):
    """gloo, on CPUs: what others use there, to be compared with."""

    name = "gloo"

    def _open(self, store: Any, address: str, device: torch.device) -> Any:
        options = dist.ProcessGroupGloo._Options()
        options._devices = [dist.ProcessGroupGloo.create_device(hostname=address)]
        options._timeout = self._timeout()
        return dist.ProcessGroupGloo(store, self.world.rank, self.world.size, options)
