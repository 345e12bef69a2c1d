"""From settings to a command line that starts all workers of a job."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from arignote.config.devices import any_accelerator
from arignote.config.settings import Launch
from arignote.launch.environment import forwarded_environment, own_environment, worker_environment
from arignote.launch.find import find_launcher
from arignote.launch.flavours.base import Flavour, Job
from arignote.launch.placement import Placement, place


@dataclass(frozen=True)
class Launched:
    """A command line, ready to be started."""

    argv: list[str]
    environment: dict[str, str]
    flavour: Flavour
    forwarded: dict[str, str]
    """The part of the environment that workers on other hosts get."""

    def shell(self) -> str:
        """As one would type it."""
        return shlex.join(self.argv)


def prepare(settings: Launch, command: list[str]) -> Launched:
    """What starts `command` as all workers, and servers if it has them.

    Raises:
        UserError: the placement does not fit, or there is no MPI.
    """
    return prepare_placed(settings, place(settings, centre=None), command)


def prepare_placed(settings: Launch, placement: Placement, command: list[str]) -> Launched:
    """The same, where it is known already who runs where.

    Raises:
        UserError: there is no MPI.
    """
    found = find_launcher(settings)
    environment = own_environment() | worker_environment(placement)
    if found.library:
        environment["MPI4PY_LIBMPI"] = found.library
    job = Job(
        program=found.program,
        placement=placement,
        # Workers on GPUs bind themselves, to cores near theirs: comm/location.py.
        bind=settings.bind and not any_accelerator(settings.devices),
        command=tuple(command),
        environment=forwarded_environment(settings, placement, environment),
        extra=tuple(settings.mpirun_arguments),
        as_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        tune_ethernet=settings.ethernet_tuning,
        launcher_environment=environment,
    )
    return Launched(found.flavour.argv(job), environment, found.flavour, job.environment)
