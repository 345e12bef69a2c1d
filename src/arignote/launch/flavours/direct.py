"""One worker: started as it is, with no MPI at all."""

from __future__ import annotations

from arignote.launch.flavours.base import Death, Flavour, Job


class Direct(Flavour):
    """No launcher."""

    name = "none"
    has_launcher = False

    def argv(self, job: Job) -> list[str]:
        """The worker's own command."""
        return list(job.command)

    def starts_noise(self, line: str) -> bool:
        """There is nobody to make any."""
        return False

    def ends_noise(self, lines: list[str]) -> bool:
        """There is nobody to make any."""
        return True

    def death(self, noise: str) -> Death | None:
        """The supervisor sees it from the exit status."""
        return None
