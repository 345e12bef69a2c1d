"""Open MPI 4 and 5."""

from __future__ import annotations

import re

from arignote.launch.flavours.base import Death, Flavour, Job, find_signal
from arignote.launch.flavours.openmpi_parameters import parameters

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
        for name, value in parameters(job, by_mpirun=True).items():
            argv += ["--mca", name, value]
        # It refuses to start workers that straddle sockets, and with them the whole job.
        if job.bind and place.fits and place.mapping != "none":
            argv += ["--map-by", f"{place.mapping}:PE={place.threads}", "--bind-to", "core"]
        else:
            argv += ["--bind-to", "none", "--oversubscribe"]
        return [*argv, *job.extra, *job.command]

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
