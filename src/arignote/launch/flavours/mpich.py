"""MPICH, and what descends from its Hydra launcher."""

from __future__ import annotations

from arignote.launch.flavours.base import Death, Flavour, Job, find_signal

_RULE = "=" * 60
_TITLE = "BAD TERMINATION"
_ABORT = "Abort("
_EPILOGUE = "YOUR APPLICATION TERMINATED WITH THE EXIT STRING"
_EPILOGUE_LINES = 3


class MPICH(Flavour):
    """`mpiexec` of MPICH (Hydra)."""

    name = "MPICH"
    noise_on_stdout = True

    def argv(self, job: Job) -> list[str]:
        """See `Flavour.argv`."""
        place = job.placement
        argv = [job.program, "-n", str(place.processes)]
        if place.hosts:
            argv += ["-hosts", ",".join(f"{host.name}:{host.slots}" for host in place.hosts)]
            argv += ["-genvlist", ",".join(job.environment)]
        argv += self._binding(job)
        return [*argv, *job.extra, *job.command]

    def _binding(self, job: Job) -> list[str]:
        place = job.placement
        if not (job.bind and place.fits):
            return ["-bind-to", "none"]
        by_node = ["-map-by", "numa"] if place.mapping == "numa" else []
        return ["-bind-to", f"core:{place.threads}", *by_node]

    def starts_noise(self, line: str) -> bool:
        """An empty line and `=====...` open the message; an Abort and the epilogue stand alone."""
        return not line.strip() or line.startswith((_RULE, _ABORT, _EPILOGUE))

    def ends_noise(self, lines: list[str]) -> bool:
        """The second `=====...`; an Abort has one line, the epilogue three."""
        body = _body(lines)
        if not body:
            return False
        if body[0].startswith(_EPILOGUE):
            return len(body) == _EPILOGUE_LINES
        if not body[0].startswith(_RULE):
            return True
        return len(body) > 1 and (_TITLE not in body[1] or body[-1].startswith(_RULE))

    def is_noise(self, lines: list[str]) -> bool:
        """Not a user's own line of equal signs, nor an empty one."""
        body = _body(lines)
        if not body:
            return False
        return body[0].startswith((_ABORT, _EPILOGUE)) or (len(body) > 1 and _TITLE in body[1])

    def death(self, noise: str) -> Death | None:
        """`PID 2374 RUNNING AT a ... EXIT CODE: 9 ... Killed (signal 9)`."""
        match = find_signal(noise, r"PID (\d+) RUNNING AT .*? \(signal (\d+)\)")
        return Death(int(match.group(2)), pid=int(match.group(1))) if match else None


def _body(lines: list[str]) -> list[str]:
    return lines if lines[0].strip() else lines[1:]


class IntelMPI(MPICH):
    """`mpirun` of Intel MPI: Hydra with its own binding, and hosts as sections."""

    name = "Intel MPI"

    def argv(self, job: Job) -> list[str]:
        """See `Flavour.argv`; one `-host` section a host, so that their slots may differ."""
        place = job.placement
        argv = [job.program, *self._binding(job), *job.extra]
        if not place.hosts:
            return [*argv, "-n", str(place.processes), *job.command]
        for name, value in job.environment.items():
            argv += ["-genv", name, value]
        left, sections = place.processes, []
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

    def death(self, noise: str) -> Death | None:
        """`RANK 1 PID 2374 RUNNING AT a = KILLED BY SIGNAL: 9 (Killed)`."""
        match = find_signal(noise, r"RANK (\d+) PID (\d+) RUNNING AT \S+ = KILLED BY SIGNAL: (\d+)")
        if match is None:
            return super().death(noise)
        rank, pid, number = (int(group) for group in match.groups())
        return Death(number, rank=rank, pid=pid)
