"""What an Open MPI is told where nobody has told it: MCA parameters, by name.

Each is left alone where the user has set it: in `launch.mpirun_arguments`, in the environment, or
in a file.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from arignote.launch.flavours.base import Job

_ETHERNET = {
    # Two workers trade long messages, and one of them begins a little late:
    # 1. a announces its message to b, b asks a to send it, and a queues all of it on the
    #    connection, whatever its length: the default fragment is of 2 GiB,
    # 2. b announces its own, and a's answer, to send that, takes its place behind all of a's,
    # 3. so b sends only when a has sent everything: the line is used one way at a time.
    # With short fragments, of which four are asked for at a time, an answer waits for 512 KiB.
    # More connections between two workers would help as well, but with Open MPI 5.0.11
    # three runs of 15 with 64 workers and two connections each hung, or failed, at the start.
    # Buffer sizes are left to the kernel: it clamps what is asked for to net.core.wmem_max,
    # and stops growing the buffer; at the usual limit of 208 KiB that cost 18 %.
    "btl_tcp_rdma_pipeline_frag_size": "131072",
}
"""For jobs on several hosts; without effect where they do not talk over TCP."""
_ONE_HOST = {
    # A transport for one-sided messages between hosts: without a network for it, it is closed
    # again in MPI_Init, which for that sleeps a second.
    "btl": "^ofi",
}
"""For jobs on one host."""
_CROWDED = {
    # It finds out by itself only where it is not told how many slots a host has.
    "mpi_yield_when_idle": "1",
}
"""Where workers share cores: who waits in MPI must let others have the core."""
_NAME_FILES = frozenset({"--tune", "--am", "-am", "OMPI_MCA_mca_base_param_files"})
"""Arguments and variables that name further files of parameters."""


def parameters(job: Job, *, by_mpirun: bool) -> dict[str, str]:
    """What nobody has set; nothing at all where files are named that we do not read.

    Args:
        by_mpirun: its own mpirun starts it, so it is known which files it reads.
    """
    if not _NAME_FILES.isdisjoint((*job.extra, *job.launcher_environment)):
        return {}
    several = len(job.placement.hosts) > 1
    wanted = dict(_ETHERNET) if several and job.tune_ethernet else {}
    if by_mpirun and not several:
        wanted |= _ONE_HOST
    if not job.placement.fits:
        wanted |= _CROWDED
    set_in_files = _set_in_files(Path(job.program), job.launcher_environment.get("HOME", "/"))
    return {
        name: value
        for name, value in wanted.items()
        if name not in job.extra
        and f"OMPI_MCA_{name}" not in job.launcher_environment
        and name not in set_in_files
    }


def _set_in_files(program: Path, home: str) -> set[str]:
    """The parameters that files set, of the user's or of the Open MPI of this mpirun."""
    files = [
        # As it is called, and where a link leads.
        program.parent.parent / "etc" / "openmpi-mca-params.conf",
        program.resolve().parent.parent / "etc" / "openmpi-mca-params.conf",
        Path(home) / ".openmpi" / "mca-params.conf",
        *Path("/etc").glob("openmpi*/openmpi-mca-params.conf"),
    ]
    names: set[str] = set()
    for file in files:
        with suppress(OSError):
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            names |= {line.partition("=")[0].strip() for line in lines if "=" in line}
    return names
