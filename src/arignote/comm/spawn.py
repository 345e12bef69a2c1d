"""`MPI_Comm_spawn` of one process on this host, which MPI knows no more once it has begun.

The bad story that this prevents:
1. a process that MPI spawned dies, whatever it was,
2. MPICH's mpiexec then ends the whole job, Open MPI's says so and ends with its code.
So what is spawned parts from who spawned it, finalises MPI, and only keeps a process of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from arignote import failure
from arignote.comm.watchdog import Watchdog
from arignote.errors import UserError

_REMEDY = (
    "many clusters do not let MPI start processes (nor does srun): leave out loading.start, for "
    "it takes none"
)
_PLACE = {
    # Open MPI: all its slots have workers.
    "map_by": "slot:OVERSUBSCRIBE",
    "bind_to": "none",
}


def spawn(command: Sequence[str], what: str, *, timeout_seconds: float, rank: int) -> None:
    """Have MPI start `command` on this host; returns once that process has called `part`.

    Args:
        what: it is, for messages.
        rank: of this worker; it leaves the run if MPI lets it wait too long.

    Raises:
        UserError: MPI refuses.
    """
    from mpi4py import MPI

    info = MPI.Info.Create()
    place = _PLACE | {"host": MPI.Get_processor_name(), "wdir": str(Path.cwd())}
    for key, value in place.items():
        info.Set(key, value)

    def expired(what: str) -> None:
        waited = f"{timeout_seconds:g} s (loading.timeout_seconds)"
        failure.leave(UserError(f"MPI has not started {what} within {waited}: {_REMEDY}"), rank)

    watchdog = Watchdog(expired)
    try:
        with watchdog.guard(what, timeout_seconds):
            program, *arguments = command
            MPI.COMM_SELF.Spawn(program, arguments, maxprocs=1, info=info).Disconnect()
    except MPI.Exception as error:
        raise UserError(f"MPI does not start {what} ({error}): {_REMEDY}") from None
    finally:
        watchdog.close()
        info.Free()


def part() -> None:
    """In a process that was spawned: have no more to do with MPI."""
    from mpi4py import MPI

    MPI.Comm.Get_parent().Disconnect()
    MPI.Finalize()
