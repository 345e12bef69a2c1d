"""Who runs where: workers, hosts and devices, checked against one another."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from arignote.config.devices import ACCELERATOR, CPU, any_accelerator, parse_device, same_for_all
from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch.allocation import Allocation, find_allocation
from arignote.launch.hosts import Host, join_hosts, parse_host, read_hostfile
from arignote.launch.mapping import Mapping, mapping_of, threads_each
from arignote.topology.gpus import hiding, torch_build, visible_gpus, why_no_gpu
from arignote.topology.machine import Machine, allowed_cpus

WORKER_GIB = 0.2
"""What a worker takes before it has any data: Python, torch, MPI (measured: 0.21 GiB)."""


@dataclass(frozen=True)
class Placement:
    """All workers of a run; `hosts` is empty when they all run on this machine."""

    workers: int
    hosts: tuple[Host, ...]
    threads: int
    """Threads a worker."""
    fits: bool
    """Whether every worker has cores of its own (as far as this machine tells)."""
    servers: int = 0
    """Ranks after the workers, which hold a centre."""
    mapping: Mapping = "slot"
    """Over which cores of a host its workers are mapped."""

    @property
    def processes(self) -> int:
        """Workers and servers."""
        return self.workers + self.servers


def launch_layer(
    *,
    workers: int | None,
    servers: int | None,
    devices: str | None,
    hosts: str | None,
    hostfile: str | None,
) -> dict[str, Any]:
    """What the command line says about placement, as a layer of settings.

    The number of workers follows from the devices (but for a single one without a number, which is
    every worker's) or the hosts where -n is not given.

    Raises:
        UserError: a device or host cannot be parsed, or their numbers disagree.
    """
    layer: dict[str, Any] = {}
    if workers is not None:
        layer["workers"] = workers
    if servers is not None:
        layer["servers"] = servers
    if devices is not None:
        layer["devices"] = [parse_device(device) for device in devices.split(",")]
        if not same_for_all(layer["devices"]):
            layer.setdefault("workers", len(layer["devices"]))
    named: list[Host] = []
    if hosts is not None:
        named = [parse_host(host) for host in hosts.split(",")]
        layer["hosts"] = [f"{host.name}:{host.slots}" for host in named]
    if hostfile is not None:
        layer["hostfile"] = str(Path(hostfile).resolve())
        # Hosts that a lower layer names would win over the file.
        layer.setdefault("hosts", [])
        named = named or read_hostfile(Path(hostfile))
    if named:
        slots = sum(host.slots for host in named)
        layer.setdefault("workers", max(1, slots - (servers or 0)))
    return layer


def named_hosts(settings: Launch) -> list[Host]:
    """The hosts that the user has named.

    Raises:
        UserError: one of them, or the file of them, cannot be read.
    """
    hosts = join_hosts(parse_host(host) for host in settings.hosts)
    if settings.hostfile and not hosts:
        return read_hostfile(Path(settings.hostfile))
    return hosts


def place(settings: Launch, *, centre: bool | None = None) -> Placement:
    """Check that workers, servers, hosts and devices fit one another.

    Args:
        centre: whether the rule has a centre that servers can hold; None: unknown.

    Raises:
        UserError: too few slots, a number of devices that is not that of the workers, or a
            device that this machine cannot have.
    """
    hosts = named_hosts(settings)
    if not hosts:
        allocation = find_allocation()
        if allocation is not None:
            return _place_in(allocation, settings, centre)
    workers, slots = settings.workers, sum(host.slots for host in hosts)
    servers = _servers(settings, centre, spare=len(hosts) > 1 and slots > workers > 1)
    if hosts and slots < workers + servers:
        also = f" and {_count(servers, 'server')}" if servers else ""
        raise UserError(
            f"{workers} workers{also} but only {slots} slots on {len(hosts)} hosts: use "
            f"-n {max(1, slots - servers)}, or give the hosts more, as in node1:4"
        )
    _check_devices(settings)
    _check_memory(max((host.slots for host in hosts), default=workers + servers), servers)
    if not hosts and any_accelerator(settings.devices):
        check_gpus_here([parse_device(device) for device in settings.devices])
    cores = usable_cores()
    local = max((host.slots for host in hosts), default=workers)
    here = Machine().count_cores(allowed_cpus())
    threads = settings.threads or threads_each(cores, local, here.sockets)
    # A launcher that binds gives a server as many cores as a worker.
    bound = local if hosts else workers + servers
    mapping = mapping_of(bound, threads, here)
    return Placement(workers, tuple(hosts), threads, threads * bound <= cores, servers, mapping)


def _place_in(allocation: Allocation, settings: Launch, centre: bool | None) -> Placement:
    """The placement on the hosts of a scheduler, which knows their cores and memory."""
    workers = settings.workers
    spare = len(allocation.hosts) > 1 and allocation.slots > workers > 1
    servers = _servers(settings, centre, spare=spare)
    hosts = allocation.hosts_for(workers, servers)
    _check_devices(settings)
    cores = allocation.cores_for(hosts)
    if cores is None:
        cores = usable_cores() // max(host.slots for host in hosts)
    threads = settings.threads or max(1, cores)
    mapping: Mapping = "slot"
    if any(host.name.partition(".")[0] == platform.node().partition(".")[0] for host in hosts):
        # A job's script runs on its first host; salloc's shell may be anywhere.
        most = max(host.slots for host in hosts)
        mapping = mapping_of(most, threads, Machine().count_cores(allowed_cpus()))
    return Placement(workers, hosts, threads, threads <= cores, servers, mapping)


def _check_devices(settings: Launch) -> None:
    devices = settings.devices
    if devices and not same_for_all(devices) and len(devices) != settings.workers:
        raise UserError(
            f"{_count(len(devices), 'device')} for {_count(settings.workers, 'worker')}: name one "
            f"device a worker, or {ACCELERATOR} alone, which shares out the GPUs of each host"
        )


def _servers(settings: Launch, centre: bool | None, *, spare: bool) -> int:
    """How many servers to start: what is asked for, else one where hosts have a slot to spare."""
    if settings.servers is None:
        return int(spare) if centre else 0
    if settings.servers and centre is False:
        raise UserError(
            f"{_count(settings.servers, 'server')} for a rule that has no centre: use --servers 0, "
            "or --rule easgd or asgd"
        )
    if settings.servers and settings.workers == 1:
        raise UserError(
            f"{_count(settings.servers, 'server')} for one worker, who meets nobody there: use "
            "--servers 0, or -n 2"
        )
    return settings.servers


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _check_memory(local: int, servers: int) -> None:
    """Refuse so many processes that this machine would swap instead of train."""
    free_gib = psutil.virtual_memory().available / 2**30
    needed_gib = local * WORKER_GIB
    if needed_gib > free_gib:
        noun = "workers and servers" if servers else "workers"
        most = max(1, int(free_gib / WORKER_GIB))
        use = f"-n {most}" if not servers else f"{most} of them at most"
        raise UserError(
            f"{local} {noun} on one host need at least {needed_gib:.0f} GiB, but "
            f"{free_gib:.0f} GiB are free: use {use}"
        )


def usable_cores() -> int:
    """Physical cores that this process may use (other hosts are taken to be alike)."""
    return len(Machine().cores(allowed_cpus()))


def check_gpus_here(devices: list[str]) -> None:
    """Without torch: will a worker on this machine find its GPU?

    Raises:
        UserError: torch can use none here, or fewer than are named.
    """
    build = torch_build()
    found = visible_gpus(build) if build is not None and build.for_gpus else 0
    if found is None:
        return
    for device in devices:
        if device == CPU or int(device.partition(":")[2] or 0) < found:
            continue
        if not found:
            raise UserError(
                f"device {device} cannot be used on this machine: {why_no_gpu(build)}; for the "
                "CPU, leave --devices out"
            )
        hidden = hiding(build) if build is not None else ""
        raise UserError(
            f"device {device} does not exist: this machine has {_count(found, 'GPU')}"
            f"{f' ({hidden})' if hidden else ''}; use --devices {ACCELERATOR}, which "
            "shares them out"
        )
