"""Open MPI 4 and 5."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from arignote.launch.flavours.base import Death, Flavour, Job, find_signal

_RULE = "-" * 60
_SPEAKERS = (
    "prterun",
    "orterun",
    "mpirun",
    "mpiexec",
    "MPI_ABORT",
    "Open MPI",
    "PMIx",
    "PRTE",
    "Primary job",
    "An MPI communication peer process",
)
_ABORTING = re.compile(r"\[[^]\s]+:\d+\] \*\*\* ")
"""How each line of a worker begins whose MPI ends it: `[a:00071] *** An error occurred in ...`."""


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
"""MCA parameters for jobs on several hosts; without effect where they do not talk over TCP."""

_ONE_HOST = {
    # A transport for one-sided messages between hosts: without a network for it, it is closed
    # again in MPI_Init, which for that sleeps a second.
    "btl": "^ofi",
}
"""MCA parameters for jobs on one host."""

_CROWDED = {
    # It finds out by itself only where it is not told how many slots a host has.
    "mpi_yield_when_idle": "1",
}
"""MCA parameters where workers share cores: who waits in MPI must let others have the core."""


class OpenMPI(Flavour):
    """`mpirun` of Open MPI."""

    name = "Open MPI"

    def argv(self, job: Job) -> list[str]:
        """See `Flavour.argv`."""
        place = job.placement
        argv = [job.program, "-n", str(place.processes)]
        if job.as_root:
            argv.append("--allow-run-as-root")
        if place.hosts:
            argv += ["--host", ",".join(f"{host.name}:{host.slots}" for host in place.hosts)]
            for name in job.environment:
                argv += ["-x", name]
        argv += self._tuning(job)
        # It refuses to start workers that straddle sockets, and with them the whole job.
        if job.bind and place.fits and place.mapping != "none":
            argv += ["--map-by", f"{place.mapping}:PE={place.threads}", "--bind-to", "core"]
        else:
            argv += ["--bind-to", "none", "--oversubscribe"]
        return [*argv, *job.extra, *job.command]

    def _tuning(self, job: Job) -> list[str]:
        """`--mca NAME VALUE` for each parameter that nobody has set himself."""
        place = job.placement
        wanted = _ONE_HOST
        if len(place.hosts) > 1:
            wanted = _ETHERNET if job.tune_ethernet else {}
        if not place.fits:
            wanted = wanted | _CROWDED
        argv = []
        set_in_files = _set_in_files(Path(job.program), job.launcher_environment.get("HOME", "/"))
        for name, value in wanted.items():
            given = name in job.extra or f"OMPI_MCA_{name}" in job.launcher_environment
            if not given and name not in set_in_files:
                argv += ["--mca", name, value]
        return argv

    def starts_noise(self, line: str) -> bool:
        """A message is framed by lines of dashes; what an aborting worker says is not."""
        return line.strip().startswith(_RULE) or _ABORTING.match(line) is not None

    def ends_noise(self, lines: list[str]) -> bool:
        """The second such line; none of its messages keeps silent for two lines on who speaks."""
        if _ABORTING.match(lines[0]):
            return True
        if len(lines) > 1 and lines[-1].strip().startswith(_RULE):
            return True
        return len(lines) > 2 and not self.is_noise(lines)

    def is_noise(self, lines: list[str]) -> bool:
        """Its messages name who speaks; a user's own rulers do not."""
        if _ABORTING.match(lines[0]):
            return True
        return any(name in line for line in lines for name in _SPEAKERS)

    def death(self, noise: str) -> Death | None:
        """`process rank 1 with PID 0 on node a exited on signal 9 (Killed).`

        The bad story between hosts:
        1. worker 1 on host b is killed, and its connections are closed,
        2. worker 0 on host a polls, sees that, and its MPI has it abort,
        3. mpirun hears of that first, and says that worker 0 called "abort"; of worker 1, nothing.
        But worker 0's MPI says, before, whose connection it was: `Peer host: b`.
        """
        one = r"process rank (\d+) (?:(?!process rank).)*? exited on signal (\d+)"
        match = find_signal(noise, one)
        if match is not None:
            return Death(int(match.group(2)), rank=int(match.group(1)))
        match = find_signal(noise, r"peer process has unexpectedly .*? Peer host: +(\S+)")
        return Death(None, host=match.group(1)) if match else None


def _set_in_files(program: Path, home: str) -> set[str]:
    """The parameters that files set, of the user's or of the Open MPI of this mpirun."""
    files = [
        program.parent.parent / "etc" / "openmpi-mca-params.conf",
        Path(home) / ".openmpi" / "mca-params.conf",
        *Path("/etc").glob("openmpi*/openmpi-mca-params.conf"),
    ]
    names: set[str] = set()
    for file in files:
        with suppress(OSError, UnicodeDecodeError):
            lines = file.read_text(encoding="utf-8").splitlines()
            names |= {line.partition("=")[0].strip() for line in lines if "=" in line}
    return names
