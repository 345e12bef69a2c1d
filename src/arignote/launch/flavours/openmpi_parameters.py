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
_ONE_HOST = {
    # A transport for one-sided messages between hosts: without a network for it, it is closed
    # again in MPI_Init, which for that sleeps a second.
    "btl": "^ofi",
}
_CROWDED = {
    # It finds out by itself only where it is not told how many slots a host has.
    "mpi_yield_when_idle": "1",
}
_NAME_FILES = frozenset({"--tune", "--am", "-am", "OMPI_MCA_mca_base_param_files"})
"""Arguments and variables that name further files of parameters."""


def ethernet(job: Job) -> dict[str, str]:
    """For jobs on several hosts; without effect where they do not talk over TCP."""
    wanted = job.tune_ethernet and len(job.placement.hosts) > 1
    return _left_open(job, _ETHERNET) if wanted else {}


def one_host(job: Job) -> dict[str, str]:
    """For jobs on one host."""
    return _left_open(job, _ONE_HOST) if len(job.placement.hosts) < 2 else {}


def crowded(job: Job) -> dict[str, str]:
    """Where workers share cores: who waits in MPI must let others have the core."""
    return {} if job.placement.fits else _left_open(job, _CROWDED)


def _left_open(job: Job, wanted: dict[str, str]) -> dict[str, str]:
    """Those of them that nobody has set; none where files are named that we do not read."""
    if not _NAME_FILES.isdisjoint((*job.extra, *job.launcher_environment)):
        return {}
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
