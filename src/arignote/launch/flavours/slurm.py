"""Slurm's srun, inside an allocation."""

from __future__ import annotations

from arignote.errors import UserError
from arignote.launch.flavours.base import Death, Flavour, Job, find_signal


class Slurm(Flavour):
    """`srun`, which starts the workers through the site's PMI.

    Args:
        pmi: the plugin of `--mpi`, by the MPI that mpi4py loads: pmix for Open MPI, else pmi2.
    """

    name = "Slurm"

    def __init__(self, pmi: str) -> None:
        self.pmi = pmi

    def argv(self, job: Job) -> list[str]:
        """See `Flavour.argv`; srun forwards the whole environment by itself."""
        place = job.placement
        argv = [job.program, f"--ntasks={place.processes}", f"--cpus-per-task={place.threads}"]
        argv += [f"--mpi={self.pmi}", "--kill-on-bad-exit=1"]
        if job.bind and place.fits:
            argv.append("--cpu-bind=cores")
        else:
            argv += ["--cpu-bind=none", "--overcommit"]
        if place.hosts:
            if len({host.slots for host in place.hosts}) > 1:
                raise UserError(
                    "srun shares the workers out evenly, but the hosts have different numbers of "
                    "slots: use --set launch.launcher=mpirun"
                )
            argv.append(f"--nodelist={','.join(host.name for host in place.hosts)}")
        return [*argv, *job.extra, *job.command]

    def starts_noise(self, line: str) -> bool:
        """`srun: error: ...`, one line each."""
        return line.startswith(("srun: error:", "srun: Job step", "slurmstepd:"))

    def ends_noise(self, lines: list[str]) -> bool:
        """The same line."""
        return True

    def death(self, noise: str) -> Death | None:
        """`srun: error: node1: task 1: Killed`, also `tasks 0-1`: then the first of them."""
        match = find_signal(noise, r"srun: error: \S+: tasks? (\d+)[\d,-]*: Killed")
        return Death(9, rank=int(match.group(1))) if match else None
