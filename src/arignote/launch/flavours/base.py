"""The contract of a launcher flavour."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from arignote.launch.placement import Placement


@dataclass(frozen=True)
class Job:
    """What is to be started."""

    program: str
    """The mpirun, mpiexec or srun."""
    placement: Placement
    bind: bool
    """Bind workers to cores."""
    command: tuple[str, ...]
    """The worker's own argv."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that the workers need, on every host."""
    extra: tuple[str, ...] = ()
    """Further arguments for the program, from the user."""
    as_root: bool = False
    tune_ethernet: bool = False
    """Set what makes the MPI's TCP transport fast, where the user has not set it himself."""
    launcher_environment: dict[str, str] = field(default_factory=dict)
    """All variables that the program itself is started with."""


@dataclass(frozen=True)
class Death:
    """What a launcher, or another worker, said about a process that was killed."""

    signal: int | None
    """None: all that is known is that its connections broke."""
    rank: int | None = None
    pid: int | None = None
    host: str | None = None
    launcher: bool = False
    """The launcher itself, not one of the processes that it started."""


class Flavour(ABC):
    """One launcher."""

    name: str
    has_launcher: bool = True
    """Whether there is a launcher: a process that is no worker."""
    noise_on_stdout: bool = False
    """Whether its messages about failed processes may come on stdout too."""

    @abstractmethod
    def argv(self, job: Job) -> list[str]:
        """The whole command line."""

    @abstractmethod
    def starts_noise(self, line: str) -> bool:
        """Whether a line of stderr may begin a message of the launcher about failed processes.

        Such messages are held back: we say it better, once.
        """

    @abstractmethod
    def ends_noise(self, lines: list[str]) -> bool:
        """Whether the last of `lines` ends the message that the first began, or shows that it
        is none: whoever prints a look-alike must not wait for the end of the run.
        """

    def is_noise(self, lines: list[str]) -> bool:
        """Whether a whole message is the launcher's own, and not a user's look-alike."""
        return True

    @abstractmethod
    def death(self, noise: str) -> Death | None:
        """Which process was killed, if the message tells."""


def find_signal(noise: str, pattern: str) -> re.Match[str] | None:
    """Search a message whose lines may be broken anywhere."""
    return re.search(pattern, " ".join(noise.split()))
