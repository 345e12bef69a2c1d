"""Cores, sockets, memory nodes and PCI devices, as Linux shows them under /sys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")
UNKNOWN_NODE = -1
"""What the kernel says of a device whose firmware names no node."""

_DISPLAYS = ("0x0300", "0x0302", "0x0380", "0x1200")
"""PCI classes of GPUs: VGA, 3-D and other display controllers, processing accelerators."""
_MAKERS = {"0x10de": "NVIDIA", "0x1002": "AMD"}
_KIB = 2.0**20
"""Of them make a GiB."""


@dataclass(frozen=True)
class Node:
    """A NUMA node: CPUs and the memory near them."""

    number: int
    cpus: frozenset[int]
    memory_gib: float
    free_gib: float


@dataclass(frozen=True)
class PciGpu:
    """A GPU on the bus, whether torch can use it or not."""

    address: str
    """As in `0000:3b:00.0`."""
    maker: str
    node: int
    """UNKNOWN_NODE: the kernel does not say."""


@dataclass(frozen=True)
class Cores:
    """How many cores may be used."""

    sockets: tuple[int, ...]
    """In each socket."""
    nodes: tuple[int, ...]
    """In each NUMA node; none: the kernel knows of no nodes."""


class Machine:
    """The machine under a /sys.

    A CPU is what the kernel schedules on; a core has one, or two where it runs two threads.

    Args:
        root: where /sys is; another one in tests.
    """

    def __init__(self, root: Path = SYS) -> None:
        self._system = root / "devices/system"
        self._pci = root / "bus/pci/devices"

    def nodes(self) -> list[Node]:
        """The NUMA nodes that are online and have CPUs; none: the kernel knows of no nodes."""
        online = parse_cpus(_text(self._system / "node/online"))
        found = []
        for number in sorted(online):
            folder = self._system / f"node/node{number}"
            cpus = parse_cpus(_text(folder / "cpulist"))
            if cpus:
                sizes = _memory_kib(_text(folder / "meminfo"))
                total, free = sizes.get("MemTotal", 0), sizes.get("MemFree", 0)
                found.append(Node(number, cpus, total / _KIB, free / _KIB))
        return found

    def sockets(self, cpus: Iterable[int]) -> list[frozenset[int]]:
        """These CPUs, by the package that they are in."""
        by_package: dict[str, set[int]] = {}
        for cpu in sorted(cpus):
            package = _text(self._system / f"cpu/cpu{cpu}/topology/physical_package_id")
            by_package.setdefault(package, set()).add(cpu)
        return [frozenset(own) for own in by_package.values()]

    def cores(self, cpus: Set[int]) -> list[frozenset[int]]:
        """These CPUs, by the core that they are threads of; in the order of their numbers."""
        found: dict[frozenset[int], None] = {}
        for cpu in sorted(cpus):
            listed = _text(self._system / f"cpu/cpu{cpu}/topology/thread_siblings_list")
            found[(parse_cpus(listed) & cpus) | {cpu}] = None
        return list(found)

    def count_cores(self, cpus: frozenset[int]) -> Cores:
        """Of these CPUs."""
        nodes = [node.cpus & cpus for node in self.nodes()]
        return Cores(
            sockets=tuple(len(self.cores(own)) for own in self.sockets(cpus)),
            nodes=tuple(len(self.cores(own)) for own in nodes if own),
        )

    def node_of(self, address: str) -> int:
        """The node that a PCI device is near to; UNKNOWN_NODE: the kernel does not say."""
        text = _text(self._pci / address / "numa_node")
        return int(text) if re.fullmatch(r"-?\d+", text) else UNKNOWN_NODE

    def gpus(self) -> list[PciGpu]:
        """All of NVIDIA's and AMD's, by their addresses."""
        if not self._pci.is_dir():
            return []
        found = []
        for folder in sorted(self._pci.iterdir()):
            maker = _MAKERS.get(_text(folder / "vendor"))
            if maker and _text(folder / "class").startswith(_DISPLAYS):
                found.append(PciGpu(folder.name, maker, self.node_of(folder.name)))
        return found


def allowed_cpus() -> frozenset[int]:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def parse_cpus(text: str) -> frozenset[int]:
    """The kernel's way to write a set.

    >>> sorted(parse_cpus("0-2,8"))
    [0, 1, 2, 8]
    """
    found: set[int] = set()
    for part in re.findall(r"\d+(?:-\d+)?", text):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def write_cpus(cpus: Iterable[int]) -> str:
    """The same, written.

    >>> write_cpus([8, 0, 1, 2])
    '0-2,8'
    """
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _text(path: Path) -> str:
    """A file's text; empty where it is not there, as in many containers."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _memory_kib(meminfo: str) -> dict[str, int]:
    """`Node 0 MemFree: 7 kB`, line by line."""
    return {name: int(kib) for name, kib in re.findall(r"Node \d+ (\w+):\s+(\d+) kB", meminfo)}
