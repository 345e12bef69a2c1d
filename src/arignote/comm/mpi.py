"""A world over MPI, through mpi4py, which binds at run time to whatever MPI the site has.

Every collective begins with a meeting that is polled, never blocked in: so a deadline can
pass, and the workers that did come can find out who did not (`comm.who`). What follows a
complete meeting is the library's own blocking call, the fastest it has, under a watchdog.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch

from arignote import control, failure
from arignote.comm.base import DeviceBuffers, Meeting, Peer, Request, World
from arignote.comm.buffers import as_array, as_bytes
from arignote.comm.device_buffers import learn
from arignote.comm.watchdog import Watchdog
from arignote.comm.who import RollBook
from arignote.errors import LostWorkerError, UserError

NO_MPI = (
    "no MPI library could be loaded: install one with pip install 'arignote[mpi]' (or load your "
    "site's module), then try again"
)

_SPIN_SECONDS = 0.0002
_YIELD_SECONDS = 0.01
_NAP_SECONDS = 0.0002
_ASK_AFTER_SECONDS = 0.2


def join_mpi(*, expected_size: int | None, timeout_seconds: float) -> MPIWorld:
    """The world of all processes that the MPI job was started with.

    Raises:
        UserError: no MPI library, or a job of another size than the launcher started.
    """
    control.mark(control.JOINING)
    control.mark(control.joining(control.process()))
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise UserError(f"{NO_MPI} ({str(error).splitlines()[0]})") from None
    size = MPI.COMM_WORLD.Get_size()
    if expected_size is not None and size != expected_size:
        raise UserError(
            f"{expected_size} workers were started but MPI formed a world of {size}: mpirun and "
            f"mpi4py belong to different MPIs; mpi4py loaded {_library()}; run `arignote doctor`, "
            "or name the right one with --set launch.mpirun=PATH"
        )
    world = MPIWorld(MPI.COMM_WORLD, timeout_seconds)
    control.mark(control.MET)
    return world


def _library() -> str:
    """Name and version of the MPI."""
    from mpi4py import MPI

    first_line = MPI.Get_library_version().strip("\0 \n").splitlines()[0]
    return " ".join(first_line.split(",")[0].split())


class MPIWorld(World):
    """The workers of an MPI communicator, which stays the caller's."""

    def __init__(self, comm: Any, timeout_seconds: float) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self.library = _library()
        self.timeout_seconds = timeout_seconds
        self.many_threads = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self.rank = comm.Get_rank()
        self._open: set[_Deferred] = set()
        self._device_buffers: DeviceBuffers | None = None
        self._watchdog = Watchdog(self._on_expiry)
        # Own communicators: a message of ours never matches one of the user's.
        with self._watchdog.guard("the start of MPI", timeout_seconds):
            self._comm = comm.Dup()
            self._book = RollBook(comm.Dup())
            everyone = self._comm.allgather(f"{platform.node()} {os.getpid()}")
        self.peers = tuple(
            Peer(rank, host, int(pid))
            for rank, (host, pid) in enumerate(line.rsplit(" ", 1) for line in everyone)
        )

    def open_meeting(self, values: Sequence[float]) -> Meeting:
        """An Iallreduce of the small vector."""
        # One element more: a sum of nothing would wait for nobody.
        mine = np.array([*values, 1.0], dtype=np.float64)
        total = np.empty_like(mine)
        meeting = _Deferred(mine, total, self._comm.Iallreduce(mine, total).Test)
        # Held here as well: MPI writes into the memory even of a meeting that nobody closes.
        self._open.add(meeting)
        return meeting

    def close_meeting(self, meeting: Meeting, what: str) -> npt.NDArray[np.float64]:
        """Poll it."""
        assert isinstance(meeting, _Deferred)
        if not self._poll(meeting.done):
            self._name_missing(what)
        self._open.discard(meeting)
        return meeting.total[:-1]

    def sum_(self, vector: torch.Tensor, what: str) -> None:
        """MPI's own Allreduce, in place; call it after a meeting (as `step` does)."""
        with self._watchdog.guard(what, self.timeout_seconds):
            self._comm.Allreduce(self._mpi.IN_PLACE, as_array(vector))

    def device_buffers(self, device: torch.device) -> DeviceBuffers | None:
        """See `comm.device_buffers`; an answer holds for worlds that are split off later too."""
        self._device_buffers = self._device_buffers or learn(self, device)
        return self._device_buffers

    def broadcast_(self, vector: torch.Tensor, what: str) -> None:
        """MPI's own Bcast, after a meeting."""
        self.meet([], what)
        with self._watchdog.guard(what, self.timeout_seconds):
            self._comm.Bcast(vector.numpy(), root=0)

    def gather(self, item: Any, what: str) -> list[Any]:
        """JSON text of each worker: lengths first, then the bytes."""
        text = json.dumps(item).encode()
        mine = np.frombuffer(text, dtype=np.uint8)
        lengths = np.zeros(self.size, dtype=np.int64)
        lengths[self.rank] = len(mine)
        lengths = self.meet(lengths.tolist(), what).astype(np.int64)
        everything = np.empty(int(lengths.sum()), dtype=np.uint8)
        with self._watchdog.guard(what, self.timeout_seconds):
            self._comm.Allgatherv(mine, [everything, lengths])
        ends = np.cumsum(lengths)
        return [
            json.loads(everything[end - length : end].tobytes())
            for end, length in zip(ends, lengths, strict=True)
        ]

    def send(self, wire: torch.Tensor, to: int, tag: int) -> Request:
        """Isend of its bytes."""
        return _Message(self._comm.Isend(as_bytes(wire), to, tag), to)

    def receive(self, wire: torch.Tensor, source: int, tag: int) -> Request:
        """Irecv of its bytes."""
        return _Message(self._comm.Irecv(as_bytes(wire), source, tag), source)

    def wait(self, requests: Sequence[Request], what: str) -> None:
        """Poll them all, since MPI moves none while nobody calls it."""
        pending = list(requests)

        def all_done() -> bool:
            pending[:] = [request for request in pending if not request.done()]
            return not pending

        if not self._poll(all_done):
            names = ", ".join(str(self.peers[rank]) for rank in sorted({r.peer for r in pending}))
            raise LostWorkerError(
                f"{names} did not finish {what} within {self.timeout_seconds:g} s; look at that "
                "worker and the network to it, or raise train.timeout_seconds"
            )

    def probe(self, tag: int) -> int | None:
        """Iprobe, which also lets MPI move what is under way."""
        status = self._mpi.Status()
        if not self._comm.Iprobe(self._mpi.ANY_SOURCE, tag, status):
            return None
        return int(status.Get_source())

    def split(self, color: int) -> World:
        """A communicator of MPI's own making; all must be here."""
        self.meet([], "a split of the world")
        with self._watchdog.guard("a split of the world", self.timeout_seconds):
            comm = self._comm.Split(color, self.rank)
            world = MPIWorld(comm, self.timeout_seconds)
            # Errors go on to name workers by their numbers in the run.
            world.peers = tuple(self.peers[rank] for rank in comm.allgather(self.rank))
            world._device_buffers = self._device_buffers
            comm.Free()
        return world

    def close(self) -> None:
        """Free what was made; mpi4py finalises MPI when Python ends."""
        with self._watchdog.guard("the end of the run", self.timeout_seconds):
            self._book.close()
            self._comm.Free()
        self._watchdog.close()

    def _poll(self, done: Callable[[], bool]) -> bool:
        """Ask until `done`: spin first (rounds are short), then yield, then nap.

        False once the deadline has passed.
        """
        begun = time.monotonic()
        while not done():
            waited = time.monotonic() - begun
            if waited < _SPIN_SECONDS and not self.patient:
                continue
            if waited > _ASK_AFTER_SECONDS:
                self._book.answer()
            if waited > self.timeout_seconds:
                return False
            time.sleep(0 if waited < _YIELD_SECONDS and not self.patient else _NAP_SECONDS)
        return True

    def _missing(self) -> tuple[str, str]:
        """(who is not there, who is), as far as those who wait can find out."""
        present = {self.rank, *self._book.ask()}
        missing = [str(peer) for rank, peer in enumerate(self.peers) if rank not in present]
        here = (str(self.peers[rank].rank) for rank in sorted(present))
        return ", ".join(missing), ", ".join(here)

    def _name_missing(self, what: str) -> NoReturn:
        missing, here = self._missing()
        names = missing or "nobody is missing, but a message is: the workers"
        raise LostWorkerError(
            f"{names} did not come to {what} within {self.timeout_seconds:g} s "
            f"(here: {here}); look at that worker, or raise train.timeout_seconds"
        )

    def _on_expiry(self, what: str) -> None:
        """From the watchdog's thread: all had come, so all that live ask and answer now."""
        names, here = "a worker, or the network,", "unknown"
        if self.many_threads and hasattr(self, "_book"):
            missing, here = self._missing()
            names = missing or names
        failure.leave(
            LostWorkerError(
                f"{names} did not finish {what} within {self.timeout_seconds:g} s though all "
                f"workers had come to it (here: {here})"
            ),
            self.rank,
        )


@dataclass(eq=False)
class _Deferred:
    """An Iallreduce under way, with the memory that it reads and writes."""

    mine: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]
    done: Callable[[], bool]


class _Message:
    """An MPI request with its peer."""

    def __init__(self, request: Any, peer: int) -> None:
        self.peer = peer
        self.done: Callable[[], bool] = request.Test
