"""Hosts by name, and how many workers each takes: on the command line and in files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from arignote.errors import UserError

_HOST = re.compile(r"^([A-Za-z0-9][A-Za-z0-9_.-]*)(?::(\d+))?$")
_HOSTFILE_LINE = re.compile(
    r"^([A-Za-z0-9][A-Za-z0-9_.-]*)(?::(\d+)|\s+(?:slots=)?(\d+))?\s*(?:max.*)?$"
)


@dataclass(frozen=True)
class Host:
    """A machine and how many workers it takes."""

    name: str
    slots: int


def parse_host(text: str) -> Host:
    """`name` or `name:slots`.

    Raises:
        UserError: it is neither.
    """
    match = _HOST.match(text.strip())
    if match is None or match.group(2) == "0":
        raise UserError(f"got host {text.strip()!r}, expected name or name:slots, such as node1:4")
    return Host(match.group(1), int(match.group(2) or 1))


def read_hostfile(path: Path) -> list[Host]:
    """Open MPI's (`name slots=4`), MPICH's (`name:4`) or a plain list of names.

    A name that stands in several lines has all their slots.

    Raises:
        UserError: the file cannot be read, or a line cannot.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"hostfile {str(path)!r} cannot be read: {error}") from None
    found: list[Host] = []
    for number, line in enumerate(lines, start=1):
        bare = line.split("#", 1)[0].strip()
        if not bare:
            continue
        match = _HOSTFILE_LINE.match(bare)
        if match is None:
            raise UserError(
                f"hostfile {str(path)!r}, line {number}: got {bare!r}, expected NAME slots=N or "
                "NAME:N"
            )
        count = int(match.group(2) or match.group(3) or 1)
        if count < 1:
            raise UserError(
                f"hostfile {str(path)!r}, line {number}: got {bare!r}, expected at least 1 slot"
            )
        found.append(Host(match.group(1), count))
    if not found:
        raise UserError(f"hostfile {str(path)!r} names no host")
    return join_hosts(found)


def join_hosts(hosts: Iterable[Host]) -> list[Host]:
    """Each host once, with all its slots."""
    slots: dict[str, int] = {}
    for host in hosts:
        slots[host.name] = slots.get(host.name, 0) + host.slots
    return [Host(name, count) for name, count in slots.items()]
