"""How the hosts of a job differ: a line for each difference, with both sides and a remedy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from arignote.launch.hostcheck.report import HostFacts

_NAMED = 3
_CLOCK_SECONDS = 1.0
_NEEDED = "mpi4py", "torch", "numpy", "pydantic", "psutil"
"""Packages without which no worker starts."""

V = TypeVar("V", bound=object)
Hosts = Mapping[str, HostFacts]


def names(hosts: Sequence[str]) -> str:
    """`h1, h2`; of many, the first ones and how many more."""
    if len(hosts) <= _NAMED + 1:
        return ", ".join(hosts)
    return f"{', '.join(hosts[:_NAMED])} and {len(hosts) - _NAMED} more"


def have(hosts: Sequence[str]) -> str:
    """`h1 has`, `h1, h2 have`."""
    return f"{names(hosts)} {'has' if len(hosts) == 1 else 'have'}"


def differences(hosts: Hosts) -> list[str]:
    """All lines about what should be alike."""
    return [
        *software_differences(hosts),
        *_cuda_awareness(hosts),
        *_devices(hosts),
        *_clocks(hosts),
    ]


def software_differences(hosts: Hosts) -> list[str]:
    """Lines about what each host has installed."""
    return [*_pythons(hosts), *_packages(hosts), *_codes(hosts), *_mpis(hosts)]


def can_start(hosts: Hosts) -> bool:
    """Whether these hosts can start an MPI job together, as far as their facts tell."""
    whole = all(
        facts.mpi and facts.code and all(facts.packages.get(name) for name in _NEEDED)
        for facts in hosts.values()
    )
    return whole and len({facts.mpi for facts in hosts.values()}) == 1


def _groups(
    hosts: Hosts, value: Callable[[HostFacts], V]
) -> tuple[V, str, list[tuple[V, list[str]]]]:
    """(the first host's value, that host, other values and who has them)."""
    first = next(iter(hosts))
    reference = value(hosts[first])
    others: dict[V, list[str]] = {}
    for name, facts in hosts.items():
        if value(facts) != reference:
            others.setdefault(value(facts), []).append(name)
    return reference, first, list(others.items())


def _pythons(hosts: Hosts) -> list[str]:
    reference, first, others = _groups(hosts, lambda facts: facts.python)
    return [
        f"{have(those)} Python {version}, {first} has {reference}: use the same environment on all "
        "hosts"
        for version, those in others
    ]


def _packages(hosts: Hosts) -> list[str]:
    lines = []
    for package in dict.fromkeys(name for facts in hosts.values() for name in facts.packages):
        lines += _package(hosts, package)
    return lines


def _package(hosts: Hosts, package: str) -> list[str]:
    reference, first, others = _groups(hosts, lambda facts: facts.packages.get(package))
    if reference is None and not others:
        return [f"{have(list(hosts))} no {package}: pip install arignote on every host"]
    lines = []
    for version, those in others:
        wanted, where = (reference, those) if reference is not None else (version, [first])
        lines.append(
            f"{have(those)} {_named(package, version)}, {first} has {reference or 'none'}: "
            f"pip install {package}=={wanted} on {names(where)}"
        )
    return lines


def _named(package: str, version: str | None) -> str:
    return f"no {package}" if version is None else f"{package} {version}"


def _codes(hosts: Hosts) -> list[str]:
    reference, first, others = _groups(hosts, lambda facts: facts.code)
    if reference is None and not others:
        # That the package is missing is told already.
        return []
    return [
        f"{have(those)} other code of arignote ({code or 'none'}) than {first} "
        f"({reference or 'none'}): bring the same to all hosts, or use a folder that they share"
        for code, those in others
    ]


def _mpis(hosts: Hosts) -> list[str]:
    lines = [
        f"{name}: mpi4py loads no MPI ({facts.mpi_problem}): pip install 'arignote[mpi]' there, or "
        "load your site's module"
        for name, facts in hosts.items()
        if facts.mpi is None
    ]
    with_one = {name: facts for name, facts in hosts.items() if facts.mpi is not None}
    if not with_one:
        return lines
    reference, first, others = _groups(with_one, lambda facts: facts.mpi)
    lines += [
        f"{names(those)}: mpi4py loads {library}, on {first} {reference}: install or load one MPI "
        "on all hosts"
        for library, those in others
    ]
    return lines


def _cuda_awareness(hosts: Hosts) -> list[str]:
    reference, first, others = _groups(hosts, lambda facts: facts.cuda_aware)
    return [
        f"{names(those)}: the MPI is {'' if aware else 'not '}CUDA-aware, on {first} it is"
        f"{'' if reference else ' not'}: install or load one MPI on all hosts"
        for aware, those in others
    ]


def _devices(hosts: Hosts) -> list[str]:
    reference, first, others = _groups(hosts, device_names)
    return [
        f"{have(those)} {found}, {first} has {reference}: workers of rules that keep step wait for "
        "the slowest; leave it out, or use --set train.balance=true"
        for found, those in others
    ]


def device_names(facts: HostFacts) -> str:
    """`2 x H100, 1 x T4`, or `no GPU`."""
    counts: dict[str, int] = {}
    for device in facts.devices:
        counts[device.name] = counts.get(device.name, 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in counts.items()) or "no GPU"


def _clocks(hosts: Hosts) -> list[str]:
    first = next(iter(hosts))
    return [
        f"the clock of {name} is {abs(facts.clock_seconds):.1f} s "
        f"{'ahead of' if facts.clock_seconds > 0 else 'behind'} {first}'s: set both by NTP "
        "(chrony, systemd-timesyncd)"
        for name, facts in hosts.items()
        if facts.clock_seconds is not None and abs(facts.clock_seconds) > _CLOCK_SECONDS
    ]
