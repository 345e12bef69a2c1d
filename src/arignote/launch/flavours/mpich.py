"""MPICH, and what descends from its Hydra launcher."""

from __future__ import annotations

from arignote.launch.flavours.base import Death, Flavour, Job, find_signal


class MPICH(Flavour):
    """`mpiexec` of MPICH (Hydra)."""

    name = "MPICH"

    def argv(self, job: Job) -> list[str]:
        """See `Flavour.argv`."""
        place = job.placement
        argv = [job.program, "-n", str(place.workers)]
        if place.hosts:
            argv += ["-hosts", ",".join(f"{host.name}:{host.slots}" for host in place.hosts)]
            argv += ["-genvlist", ",".join(job.environment)]
        argv += self._binding(job)
        return [*argv, *job.extra, *job.command]

    def _binding(self, job: Job) -> list[str]:
        fits = job.bind and job.placement.fits
        return ["-bind-to", f"core:{job.placement.threads}" if fits else "none"]

    def starts_noise(self, line: str) -> bool:
        """`=====...` opens the message, and so does an Abort."""
        return line.startswith(("=" * 60, "Abort("))

    def ends_noise(self, lines: list[str]) -> bool:
        """Its last line points to the FAQ; an Abort has only one."""
        return lines[0].startswith("Abort(") or lines[-1].startswith("Please see the FAQ")

    def is_noise(self, lines: list[str]) -> bool:
        """Not a user's own line of equal signs."""
        return lines[0].startswith("Abort(") or any("BAD TERMINATION" in line for line in lines)

    def death(self, noise: str) -> Death | None:
        """`PID 2374 RUNNING AT a ... EXIT CODE: 9 ... Killed (signal 9)`."""
        match = find_signal(noise, r"PID (\d+) RUNNING AT .*? \(signal (\d+)\)")
        return Death(int(match.group(2)), pid=int(match.group(1))) if match else None


class IntelMPI(MPICH):
    """`mpirun` of Intel MPI: Hydra with its own binding, and hosts as sections."""

    name = "Intel MPI"

    def argv(self, job: Job) -> list[str]:
        """See `Flavour.argv`; one `-host` section a host, so that their slots may differ."""
        place = job.placement
        argv = [job.program, *self._binding(job), *job.extra]
        if not place.hosts:
            return [*argv, "-n", str(place.workers), *job.command]
        for name, value in job.environment.items():
            argv += ["-genv", name, value]
        left, sections = place.workers, []
        for host in place.hosts:
            count = min(left, host.slots)
            left -= count
            if count:
                sections.append(["-host", host.name, "-n", str(count), *job.command])
        for index, section in enumerate(sections):
            argv += [":", *section] if index else section
        return argv

    def _binding(self, job: Job) -> list[str]:
        if job.bind and job.placement.fits:
            return ["-genv", "I_MPI_PIN_DOMAIN", str(job.placement.threads)]
        return ["-genv", "I_MPI_PIN", "0"]
