"""What single hosts of a job lack: cores, memory, an interface; a line each, with a remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from arignote.config.devices import VISIBLE
from arignote.launch.hostcheck.compare import Hosts, device_names, have, names
from arignote.launch.hostcheck.network_settings import has_interface
from arignote.launch.hostcheck.report import HostFacts
from arignote.launch.placement import WORKER_GIB

_LEAST_MEMORY_GIB = 2.0
_LEAST_SHARED_GIB = 1.0


def shortages(
    hosts: Hosts,
    slots: Mapping[str, int],
    interfaces: Sequence[tuple[str, list[str]]],
    threads: int,
) -> list[str]:
    """All lines about what is too little, or not there.

    Args:
        slots: how many workers each host takes, where that is known.
        interfaces: (setting, the interfaces that it names).
        threads: of each worker, as the launcher counts them; 0: the user chose.
    """
    one_machine = _same_machine(hosts)
    lines = one_machine[:]
    for name, facts in hosts.items():
        lines += _cores(name, facts, slots.get(name, 0), threads)
        lines += _memory(name, facts, slots.get(name, 0))
        if not one_machine:
            lines += _names(name, facts)
        lines += _unseen(name, facts)
    for setting, wanted in interfaces:
        lines += missing_interfaces(hosts, setting, wanted)
    return lines


def _same_machine(hosts: Hosts) -> list[str]:
    known: dict[str, str] = {}
    lines = []
    for name, facts in hosts.items():
        # Containers may all have one name, but then addresses of their own.
        identity = f"{facts.node} {sorted(facts.interfaces.items())}"
        first = known.setdefault(identity, name)
        if first != name:
            lines.append(
                f"{first} and {name} are one machine ({facts.node}): name it once, with all slots"
            )
    return lines


def _cores(name: str, facts: HostFacts, slots: int, threads: int) -> list[str]:
    if slots > facts.cores:
        return [
            f"{name} has fewer cores ({facts.cores}) than workers ({slots}): use "
            f"{name}:{facts.cores}, or expect them to take turns"
        ]
    if slots and threads * slots > facts.cores:
        return [
            f"{name} has fewer cores ({facts.cores}) than threads ({slots} x {threads}, counted on "
            f"the launcher's host): use --set launch.threads={facts.cores // slots}"
        ]
    return []


def _memory(name: str, facts: HostFacts, slots: int) -> list[str]:
    lines = []
    needed = max(_LEAST_MEMORY_GIB, slots * WORKER_GIB)
    if facts.free_memory_gib < needed:
        lines.append(
            f"{name} has {facts.free_memory_gib:.1f} GiB of free memory, less than {needed:.1f}: "
            "end other programs there, or give it fewer workers"
        )
    if facts.free_shared_memory_gib is None:
        lines.append(
            f"{name} has no /dev/shm: mount one, for its workers exchange through it "
            "(docker: --shm-size=8g)"
        )
    elif facts.free_shared_memory_gib < _LEAST_SHARED_GIB:
        lines.append(
            f"{name} has less than 1 GiB free in /dev/shm: enlarge it (docker: --shm-size=8g)"
        )
    return lines


def _names(name: str, facts: HostFacts) -> list[str]:
    """A wrong line in /etc/hosts sends messages for another host to this one."""
    back = [other for other, interface in facts.ways.items() if interface == "lo"]
    if not back:
        return []
    return [f"on {name} the name {names(back)} leads back to itself (lo): correct its /etc/hosts"]


def _unseen(name: str, facts: HostFacts) -> list[str]:
    if not facts.devices or facts.visible_devices != 0:
        return []
    return [
        f"{name} has {device_names(facts)}, but torch sees no GPU there: install a torch with "
        f"CUDA, or look at {VISIBLE} and the driver"
    ]


def missing_interfaces(hosts: Hosts, setting: str, wanted: list[str]) -> list[str]:
    """A line where `setting` names interfaces of which some host has none."""
    without = [
        name
        for name, facts in hosts.items()
        if not has_interface(setting, wanted, facts.interfaces)
    ]
    if not without:
        return []
    there = ", ".join(hosts[without[0]].interfaces) or "none"
    return [
        f"{have(without)} no interface {','.join(wanted)}, which {setting} names ({without[0]} has "
        f"{there}): name one that leads to the other hosts, or leave the setting out"
    ]
