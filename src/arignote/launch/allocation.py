"""The hosts that a scheduler has given us: Slurm's, LSF's or PBS's, by the variables it sets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from arignote.config.devices import count_workers
from arignote.errors import UserError
from arignote.launch.hosts import Host
from arignote.launch.slurm_lists import expand_counts, expand_nodes

_WHERE = ("hosts", "hostfile")


@dataclass(frozen=True)
class Allocation:
    """What a scheduler has given us."""

    scheduler: str
    """`Slurm`, `LSF` or `PBS`."""
    job: str
    hosts: tuple[Host, ...]
    """A slot a task that was asked for."""
    cores: tuple[int, ...] = ()
    """Of each host, in their order; empty: the scheduler does not say."""
    tasks_given: bool = True
    """Whether the number of tasks was asked for, and is not just one a host."""

    @property
    def slots(self) -> int:
        """Of all hosts together."""
        return sum(host.slots for host in self.hosts)

    def hosts_for(self, workers: int, servers: int = 0) -> tuple[Host, ...]:
        """The hosts that so many processes use, filled one after the other.

        Where they are more than the tasks, which nobody asked for, a host takes one a core.

        Raises:
            UserError: they are too many.
        """
        hosts, processes = self.hosts, workers + servers
        if processes > self.slots and not self.tasks_given:
            hosts = tuple(
                replace(host, slots=max(host.slots, cores))
                for host, cores in zip(hosts, self.cores, strict=False)
            )
        slots, used, left = sum(host.slots for host in hosts), [], processes
        if processes > slots:
            also = f" and {servers} server{'s' if servers > 1 else ''}" if servers else ""
            raise UserError(
                f"{workers} workers{also} but {self.scheduler} job {self.job} has {slots} slots: "
                f"use -n {max(1, slots - servers)}, or ask {self.scheduler} for more tasks"
            )
        for host in hosts:
            if left:
                used.append(replace(host, slots=min(left, host.slots)))
                left -= used[-1].slots
        return tuple(used)

    def cores_for(self, hosts: Sequence[Host]) -> int | None:
        """Cores for one process, where they are fewest; 0: several share one; None: unknown."""
        each = [cores // host.slots for host, cores in zip(hosts, self.cores, strict=False)]
        return min(each) if each else None


def find_allocation(environment: Mapping[str, str] = os.environ) -> Allocation | None:
    """The allocation that we run in, if we run in one.

    Raises:
        UserError: what the scheduler says of it cannot be read.
    """
    for find in (_slurm, _lsf, _pbs):
        found = find(environment)
        if found is not None:
            return found
    return None


def refuse_inside_srun(environment: Mapping[str, str] = os.environ) -> None:
    """Raise a UserError where srun has started several of us, each of which would start all."""
    count = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    # In `srun --pty bash` several shells are started, but only one has a person before it.
    if count > 1 and "SLURM_PTY_PORT" not in environment:
        raise UserError(
            f"srun has started this command {count} times: leave out srun (arignote starts the "
            "workers itself), or use srun --ntasks=1"
        )


def allocation_layer(asked: Sequence[dict[str, Any]], before: dict[str, Any]) -> dict[str, Any]:
    """In an allocation, a worker a slot, unless something else is asked for: a layer of settings.

    Args:
        asked: what a file and the command line say.
        before: what a run that goes on was started with; how many workers it had does not count.

    Raises:
        UserError: as `find_allocation`, or the servers leave no slot for a worker.
    """
    if any(_names(layer, ("workers", *_WHERE)) for layer in asked) or _names(before, _WHERE):
        return {}
    allocation = find_allocation()
    if allocation is None:
        return {}
    servers = _servers([before, *asked])
    if servers >= allocation.slots:
        raise UserError(
            f"launch.servers={servers} leaves no slot of {allocation.scheduler} job "
            f"{allocation.job} for a worker (it has {allocation.slots}): use fewer servers, or ask "
            f"{allocation.scheduler} for more tasks"
        )
    return {"launch": {"workers": allocation.slots - servers}}


def _servers(layers: Sequence[dict[str, Any]]) -> int:
    """How many the last layer that says so asks for; what is no number is told of later."""
    asked = 0
    for launch in (layer.get("launch") for layer in layers):
        count = launch.get("servers") if isinstance(launch, dict) else None
        asked = count if isinstance(count, int) else asked
    return asked


def _names(layer: dict[str, Any], keys: Sequence[str]) -> bool:
    launch = layer.get("launch")
    if not isinstance(launch, dict):
        return False
    return any(launch.get(key) for key in keys) or count_workers(launch.get("devices"))


def _slurm(environment: Mapping[str, str]) -> Allocation | None:
    parts = environment.get("SLURM_HET_SIZE", "1")
    if parts != "1":
        # The bad story: of its nodes only those of the first part are told by the usual names, or
        # none, and srun starts processes on those alone; the others stay idle, and nobody knows.
        raise UserError(
            f"Slurm job {environment.get('SLURM_JOB_ID', '')} is heterogeneous ({parts} parts), "
            "and a run takes one part: ask for all tasks in one, without `:`; its nodes may have "
            "different numbers of tasks (salloc -N 2 -n 3)"
        )
    nodes = environment.get("SLURM_JOB_NODELIST")
    if "SLURM_JOB_ID" not in environment or not nodes:
        return None
    names = expand_nodes(nodes)
    tasks = environment.get("SLURM_TASKS_PER_NODE") or f"1(x{len(names)})"
    slots = expand_counts(tasks, "SLURM_TASKS_PER_NODE", len(names))
    cores: tuple[int, ...] = ()
    if environment.get("SLURM_JOB_CPUS_PER_NODE"):
        name = "SLURM_JOB_CPUS_PER_NODE"
        cores = expand_counts(environment[name], name, len(names))
    per_task = int(environment.get("SLURM_CPUS_PER_TASK", "0"))
    hosts = tuple(Host(name, count) for name, count in zip(names, slots, strict=True))
    if per_task:
        # A node may have more: the rest is not for us to take.
        cores = tuple(per_task * host.slots for host in hosts)
    given = "SLURM_NTASKS" in environment
    return Allocation("Slurm", environment["SLURM_JOB_ID"], hosts, cores, given)


def _lsf(environment: Mapping[str, str]) -> Allocation | None:
    job = environment.get("LSB_JOBID", "")
    file, text = environment.get("LSB_DJOB_HOSTFILE"), environment.get("LSB_MCPU_HOSTS", "")
    if file:
        return Allocation("LSF", job, _counted(Path(file), "LSB_DJOB_HOSTFILE"))
    if not text:
        return None
    words = text.split()
    if len(words) % 2 or not all(count.isdecimal() for count in words[1::2]):
        raise UserError(
            f"LSB_MCPU_HOSTS is {text!r}, expected HOST COUNT HOST COUNT ...: name the hosts "
            "yourself with --hosts"
        )
    pairs = zip(words[::2], words[1::2], strict=True)
    return Allocation("LSF", job, tuple(Host(name, int(count)) for name, count in pairs))


def _pbs(environment: Mapping[str, str]) -> Allocation | None:
    file = environment.get("PBS_NODEFILE")
    if not file:
        return None
    hosts = _counted(Path(file), "PBS_NODEFILE")
    # Without mpiprocs PBS names a host once, whatever the number of its cores.
    cores = environment.get("NCPUS", "")
    each = (int(cores),) * len(hosts) if cores.isdecimal() else ()
    return Allocation("PBS", environment.get("PBS_JOBID", ""), hosts, each, tasks_given=not each)


def _counted(file: Path, variable: str) -> tuple[Host, ...]:
    """The hosts of a file that names each once a slot."""
    try:
        names = file.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{variable} names {str(file)!r}, which cannot be read: {error}") from None
    if not names:
        raise UserError(f"{variable} names {str(file)!r}, which names no host: use --hosts")
    return tuple(Host(name, count) for name, count in Counter(names).items())
