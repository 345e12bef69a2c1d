"""A machine's sockets, NUMA nodes and GPUs in words, for `arignote doctor`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arignote.topology.machine import Machine, Node, write_cpus


@dataclass(frozen=True)
class SeenGpu:
    """A GPU as torch sees it."""

    device: str
    name: str
    address: str
    """On the PCI bus; empty: torch does not tell."""
    free_gib: float | None
    """None: it is so full that it cannot be asked."""
    gib: float


def topology_rows(
    machine: Machine, allowed: frozenset[int], seen: Sequence[SeenGpu]
) -> dict[str, str]:
    """What of it may be used, title by title.

    Args:
        allowed: the CPUs that this process may use.
        seen: the GPUs that torch sees.
    """
    nodes, sockets = machine.nodes(), machine.sockets(allowed)
    rows = {
        "topology": f"{_count(len(sockets), 'socket')}, {_count(len(nodes), 'NUMA node')}, "
        f"{_count(len(machine.cores(allowed)), 'core')} (CPUs {write_cpus(allowed)})"
    }
    near: dict[int | None, list[str]] = {}
    numbers = {node.number for node in nodes}
    for address, text in _gpus(machine, seen):
        home = machine.node_of(address)
        # One node is near to everything, whatever the firmware says.
        home = next(iter(numbers)) if len(numbers) == 1 else home
        near.setdefault(home if home in numbers else None, []).append(text)
    for node in nodes:
        rows[f"node {node.number}"] = _node(machine, node, allowed, near.get(node.number, []))
    if near.get(None):
        rows["near no known node"] = ", ".join(near[None])
    return rows


def _node(machine: Machine, node: Node, allowed: frozenset[int], gpus: Sequence[str]) -> str:
    cpus = node.cpus & allowed
    cores = f"{_count(len(machine.cores(cpus)), 'core')} (CPUs {write_cpus(cpus)})"
    memory = f"{node.free_gib:.1f} of {node.memory_gib:.1f} GiB free"
    return "; ".join([cores if cpus else "no core that may be used", memory, *gpus])


def _gpus(machine: Machine, seen: Sequence[SeenGpu]) -> list[tuple[str, str]]:
    """(address, words) of those that torch sees, and of those that only the bus shows."""
    found = []
    for gpu in seen:
        memory = "full" if gpu.free_gib is None else f"{gpu.free_gib:.1f} of {gpu.gib:.1f} GiB free"
        found.append((gpu.address, f"{gpu.device} {gpu.name} ({memory})"))
    known = {gpu.address for gpu in seen}
    # Where torch tells of no address, which of them are seen is not known.
    hidden = [] if "" in known else [gpu for gpu in machine.gpus() if gpu.address not in known]
    return found + [
        (gpu.address, f"{gpu.maker} {gpu.address}, not seen by torch") for gpu in hidden
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
