"""Which CPUs each worker of a host has: near its GPU, shared out among the workers near the
same node. What cannot be known is left as it is, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from arignote.topology.machine import UNKNOWN_NODE, Machine, write_cpus


@dataclass(frozen=True)
class Share:
    """What one worker gets."""

    cpus: frozenset[int]
    """Empty: it stays as it is."""
    reason: str = ""
    """Why it stays as it is."""


def share_cpus(
    machine: Machine, gpus: Sequence[str | None], allowed: frozenset[int]
) -> list[Share]:
    """Share out the CPUs of a host among its workers, in their order.

    Args:
        gpus: the PCI address of each worker's GPU; empty: torch does not tell; None: it has none.
        allowed: the CPUs that these workers may use.
    """
    nodes = {node.number: node.cpus & allowed for node in machine.nodes()}
    # Where there is one node, or none that the kernel knows of, everything is near.
    only = next(iter(nodes), 0) if len(nodes) < 2 else None
    if only is not None:
        nodes = {only: allowed}
    homes: list[int | None] = []
    reasons = []
    for address in gpus:
        home, reason = (only, "")
        if address is not None and only is None:
            home, reason = _home(machine, address, nodes, allowed)
        homes.append(home)
        reasons.append(reason)
    _house_others(homes, gpus, nodes)
    shares: list[Share] = [Share(frozenset(), reason) for reason in reasons]
    for number, cpus in nodes.items():
        here = [index for index, home in enumerate(homes) if home == number]
        for index, part in zip(here, _parts(machine, cpus, len(here)), strict=True):
            shares[index] = Share(part)
    return shares


def _home(
    machine: Machine, address: str, nodes: dict[int, frozenset[int]], allowed: frozenset[int]
) -> tuple[int | None, str]:
    """(the node near a GPU, why there is none)."""
    if not address:
        return None, "this torch does not tell which PCI device its GPU is"
    number = machine.node_of(address)
    if number == UNKNOWN_NODE:
        return None, f"the kernel does not say which NUMA node GPU {address} is near to"
    if not nodes.get(number):
        return None, (
            f"GPU {address} is near node {number}, of which none of our CPUs "
            f"({write_cpus(allowed)}) is"
        )
    return number, ""


def _house_others(
    homes: list[int | None], gpus: Sequence[str | None], nodes: dict[int, frozenset[int]]
) -> None:
    """Give each worker without a GPU the node where workers have most CPUs."""
    for index, address in enumerate(gpus):
        if address is None and homes[index] is None:
            homes[index] = max(nodes, key=lambda n: (len(nodes[n]) / (homes.count(n) + 1), -n))


def _parts(machine: Machine, cpus: frozenset[int], workers: int) -> list[frozenset[int]]:
    """Whole cores, in order; all of them for everybody where they are too few."""
    cores = machine.cores(cpus)
    if len(cores) < workers:
        return [cpus] * workers
    bounds = [len(cores) * index // workers for index in range(workers + 1)] if workers else [0]
    return [frozenset().union(*cores[first:last]) for first, last in pairwise(bounds)]
