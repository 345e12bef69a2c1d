"""Before a run starts: is every host that the user has named there, and alike?

The bad story:
1. a host cannot be reached, or has another version of something than the others,
2. mpirun says so in a page that names no remedy, or waits; or all start, and workers disagree
   later, in ways that nobody traces back to a version.
"""

from __future__ import annotations

from collections.abc import Sequence

from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch.allocation import find_allocation
from arignote.launch.hostcheck.compare import software_differences
from arignote.launch.hostcheck.network_settings import named_interfaces
from arignote.launch.hostcheck.reach import Shell, ask_hosts, find_shell, is_here
from arignote.launch.hostcheck.report import HostFacts
from arignote.launch.hostcheck.shortage import missing_interfaces
from arignote.launch.placement import named_hosts

_ANSWER_SECONDS = 60.0
"""Longest that a host may take: Python's start from a slow disk, and the import of mpi4py."""
_SILENCE_SECONDS = 10.0
_UNASKED = "start without asking (--set launch.check_hosts=false)"


def admit_hosts(settings: Launch, environment: dict[str, str]) -> None:
    """Ask the hosts that the user has named, all at once, and refuse to start where one is unfit.

    Args:
        environment: the variables that workers on other hosts get.

    Raises:
        UserError: the first thing wrong, and how many more there are.
    """
    found = _way_there(settings) if settings.check_hosts else None
    if found is None:
        return
    hosts, shell = found
    seconds = min(_ANSWER_SECONDS, settings.start_timeout_seconds)
    problems = host_problems(
        hosts, shell, environment, named_interfaces(settings), timeout_seconds=seconds
    )
    if not problems:
        return
    more = ""
    if len(problems) > 1:
        named = ",".join(hosts)
        more = f" (and {len(problems) - 1} more: arignote doctor --hosts {named})"
    raise UserError(problems[0] + more)


def host_problems(
    hosts: Sequence[str],
    shell: Shell,
    environment: dict[str, str],
    interfaces: Sequence[tuple[str, list[str]]],
    *,
    timeout_seconds: float,
) -> list[str]:
    """All lines about hosts that do not answer, or on which the same run would not be the same.

    Args:
        interfaces: (setting, the interfaces that it names).
        timeout_seconds: how long a host may take.
    """
    answers = ask_hosts(hosts, shell, environment, timeout_seconds, otherwise=_UNASKED)
    problems = [answer for answer in answers.values() if isinstance(answer, str)]
    facts = {name: answer for name, answer in answers.items() if isinstance(answer, HostFacts)}
    if not facts:
        return problems
    problems += software_differences(facts)
    for setting, wanted in interfaces:
        problems += missing_interfaces(facts, setting, wanted)
    return problems


def silent_hosts(settings: Launch) -> list[str]:
    """A line for each host that does not answer now, when its workers have not come in time."""
    found = _way_there(settings)
    if found is None:
        return []
    hosts, shell = found
    answers = ask_hosts(hosts, shell, {}, _SILENCE_SECONDS, otherwise="restart it")
    return [answer for answer in answers.values() if isinstance(answer, str)]


def _way_there(settings: Launch) -> tuple[list[str], Shell] | None:
    """(the hosts, how they are reached); None: nobody has named other hosts, or none are asked."""
    hosts = [host.name for host in named_hosts(settings)]
    allocation = find_allocation()
    slurm = allocation is not None and allocation.scheduler == "Slurm"
    if allocation is not None and not slurm:
        # Of LSF and PBS the launcher has its own way to the hosts: there may be no ssh.
        return None
    if all(map(is_here, hosts)):
        return None
    return hosts, find_shell(settings, slurm=slurm)
