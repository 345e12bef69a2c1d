"""A /sys of machines that nobody has to have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from arignote.topology.machine import Machine, parse_cpus


@pytest.fixture
def make_machine(tmp_path: Path) -> Callable[..., Machine]:
    """make_machine({0: "0-3", 1: "4-7"}, gpus={"0000:01:00.0": 0}, threads=1)."""
    return lambda nodes, **more: Machine(write_sys(tmp_path, nodes, **more))


def write_sys(
    root: Path,
    nodes: dict[int, str],
    *,
    gpus: dict[str, int] | None = None,
    offline: tuple[int, ...] = (),
    threads: int = 1,
) -> Path:
    """Nodes with their CPUs, each a socket of its own; with two threads, CPUs n and n + half of the
    node's are one core.
    """
    system = root / "devices/system"
    for number, listed in nodes.items():
        cpus = sorted(parse_cpus(listed))
        write(system / f"node/node{number}/cpulist", "" if number in offline else listed)
        memory = f"Node {number} MemTotal:  4194304 kB\nNode {number} MemFree:  1048576 kB\n"
        write(system / f"node/node{number}/meminfo", memory)
        cores = len(cpus) // threads
        for index, cpu in enumerate(cpus):
            topology = system / f"cpu/cpu{cpu}/topology"
            siblings = ",".join(str(c) for i, c in enumerate(cpus) if i % cores == index % cores)
            write(topology / "thread_siblings_list", siblings)
            write(topology / "physical_package_id", str(number))
    write(system / "node/online", ",".join(str(n) for n in nodes if n not in offline))
    for address, node in (gpus or {}).items():
        write(root / f"bus/pci/devices/{address}/numa_node", str(node))
        write(root / f"bus/pci/devices/{address}/vendor", "0x10de")
        write(root / f"bus/pci/devices/{address}/class", "0x030200")
    return root


def write(path: Path, text: str) -> None:
    """A file with its folders, ended as the kernel does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")
