"""Slurm's srun, inside an allocation."""

from __future__ import annotations

from arignote.launch.flavours.base import Death, Flavour, Job, find_signal
from arignote.launch.flavours.openmpi_parameters import parameters

_NOISE = (
    "srun: error:",
    "srun: Job step",
    "srun: forcing job termination",
    "srun: got SIGCONT",
    "srun: launch/slurm:",
    "srun: cluster configuration lacks support for cpu binding",
    "slurmstepd",
)


class Slurm(Flavour):
    """`srun`, which starts the workers through the site's PMI.

    Args:
        pmi: the plugin of `--mpi`: what Slurm has that the MPI speaks which mpi4py loads; none:
            for one worker.
    """

    name = "Slurm"

    def __init__(self, pmi: str) -> None:
        self.pmi = pmi

    def argv(self, job: Job) -> list[str]:
        """See `Flavour.argv`; srun forwards the whole environment by itself."""
        place = job.placement
        argv = [job.program, f"--ntasks={place.processes}", f"--cpus-per-task={place.threads}"]
        # Whoever submits with --export=NONE means his shell's variables, not ours.
        more = parameters(job, by_mpirun=False).items()
        export = ",".join(["ALL", *(f"OMPI_MCA_{name}={value}" for name, value in more)])
        argv += [f"--mpi={self.pmi}", "--kill-on-bad-exit=1", f"--export={export}"]
        if "SLURM_STEP_ID" in job.launcher_environment:
            # We are in a step ourselves (`srun --pty bash`), which has all cores.
            argv.append("--overlap")
        if job.bind and place.fits:
            argv.append("--cpu-bind=cores")
        else:
            argv += ["--cpu-bind=none", "--overcommit"]
        return [*argv, *self._where(job), *job.extra, *job.command]

    def _where(self, job: Job) -> list[str]:
        """How many workers each host takes; left to itself, srun fills the first ones."""
        hosts = job.placement.hosts
        if not hosts:
            return []
        names, left = [], job.placement.processes
        for host in hosts:
            names.append([host.name] * min(left, host.slots))
            left -= len(names[-1])
        if len({len(one) for one in names}) == 1:
            nodes = ",".join(host.name for host in hosts)
            return [f"--nodelist={nodes}", f"--ntasks-per-node={len(names[0])}"]
        every = ",".join(name for one in names for name in one)
        return ["--distribution=arbitrary", f"--nodelist={every}"]

    def starts_noise(self, line: str) -> bool:
        """`srun: error: ...`, one line each, and what it says when it is told to stop."""
        return line.startswith(_NOISE)

    def ends_noise(self, lines: list[str]) -> bool:
        """The same line."""
        return True

    def death(self, noise: str) -> Death | None:
        """`srun: error: node1: task 1: Killed`, also `tasks 0-1`: then the first of them."""
        match = find_signal(noise, r"srun: error: \S+: tasks? (\d+)[\d,-]*: Killed")
        return Death(9, rank=int(match.group(1))) if match else None
