"""Slurm's short forms: of the names of nodes, and of a number for each."""

from __future__ import annotations

import re

from arignote.errors import UserError

_COUNT = re.compile(r"(\d+)(?:\(x(\d+)\))?")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def expand_counts(text: str, variable: str, hosts: int) -> tuple[int, ...]:
    """One number a host.

    >>> expand_counts("2(x3),1", "SLURM_TASKS_PER_NODE", 4)
    (2, 2, 2, 1)

    Raises:
        UserError: the text is no such list, or one for another number of hosts.
    """
    counts: list[int] = []
    for part in text.split(","):
        match = _COUNT.fullmatch(part)
        if match is None:
            raise UserError(
                f"{variable} is {text!r}, expected numbers such as 2(x3),1: name the hosts "
                "yourself with --hosts"
            )
        counts += [int(match.group(1))] * int(match.group(2) or 1)
    if len(counts) != hosts:
        raise UserError(
            f"{variable} is {text!r}, which is for {len(counts)} hosts, but the allocation has "
            f"{hosts}: name the hosts yourself with --hosts"
        )
    return tuple(counts)


def expand_nodes(text: str) -> list[str]:
    """The names in Slurm's short form.

    >>> expand_nodes("n[08-10,12],gpu1")
    ['n08', 'n09', 'n10', 'n12', 'gpu1']

    Raises:
        UserError: the text is no such list.
    """
    names: list[str] = []
    for part in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", text):
        expanded = [""]
        for plain, ranges in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            tails = [plain] if plain else _numbers(ranges, text)
            expanded = [name + tail for name in expanded for tail in tails]
        names += expanded
    if not names or text.count("[") != text.count("]"):
        raise _not_nodes(text)
    return names


def _numbers(ranges: str, whole: str) -> list[str]:
    """`08-10,12` as 08, 09, 10, 12."""
    found: list[str] = []
    for part in ranges.split(","):
        match = _RANGE.fullmatch(part)
        if match is None:
            raise _not_nodes(whole)
        first, last = match.group(1), match.group(2) or match.group(1)
        found += [str(i).zfill(len(first)) for i in range(int(first), int(last) + 1)]
    return found


def _not_nodes(text: str) -> UserError:
    return UserError(
        f"SLURM_JOB_NODELIST is {text!r}, expected names such as n[1-4],gpu1: name the hosts "
        "yourself with --hosts"
    )
