"""Open the world that this process was started into."""

from __future__ import annotations

import os
import sys

from arignote import control
from arignote.comm.base import World
from arignote.comm.crew import Crew, form_crew
from arignote.comm.serial import SerialWorld

WORKERS_VARIABLE = "ARIGNOTE_WORKERS"
"""Set by our launcher: how many workers it started."""
SERVERS_VARIABLE = "ARIGNOTE_SERVERS"
"""Likewise, of servers."""

_SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS")
"""Set by mpirun and srun where a user started the script with them."""


def open_crew(timeout_seconds: float) -> Crew:
    """All ranks of the run; see `open_world`."""
    return form_crew(open_world(timeout_seconds), int(os.environ.get(SERVERS_VARIABLE, "0")))


def leave_mpi() -> None:
    """Finish with MPI, where it was begun with; else it is done as the interpreter ends."""
    if "mpi4py.MPI" in sys.modules:
        from mpi4py import MPI

        if MPI.Is_initialized() and not MPI.Is_finalized():
            MPI.Finalize()


def open_world(timeout_seconds: float) -> World:
    """One worker alone where nothing says otherwise, else the MPI world.

    Raises:
        UserError: as `join_mpi`.
    """
    expected = os.environ.get("SLURM_STEP_NUM_TASKS")
    if WORKERS_VARIABLE in os.environ:
        servers = int(os.environ.get(SERVERS_VARIABLE, "0"))
        expected = str(int(os.environ[WORKERS_VARIABLE]) + servers)
    if expected is None and any(int(os.environ.get(v, "1")) > 1 for v in _SIZE_VARIABLES):
        started = None
    elif expected is None or int(expected) == 1:
        control.mark(control.MET)
        return SerialWorld()
    else:
        started = int(expected)
    from arignote.comm.mpi import join_mpi

    return join_mpi(expected_size=started, timeout_seconds=timeout_seconds)
