"""What a run says at its start of where its workers compute; events.jsonl has all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from arignote.config.devices import ACCELERATOR
from arignote.topology.machine import write_cpus

_HOSTS_SHOWN = 4
_WORKERS_SHOWN = 8


def placement_lines(workers: Sequence[dict[str, Any]], idle_gpus: int) -> Iterator[str]:
    """Lines about workers on GPUs; of CPUs only what is odd.

    Args:
        workers: where each is, as `comm.location.Location` has it.
        idle_gpus: that worker 0 sees and nobody asked for.
    """
    by_host: dict[str, list[dict[str, Any]]] = {}
    for worker in workers:
        if worker["name"]:
            by_host.setdefault(worker["host"], []).append(worker)
    for host in list(by_host)[:_HOSTS_SHOWN]:
        yield _host(host, by_host[host])
    if len(by_host) > _HOSTS_SHOWN:
        yield f"... and on {len(by_host) - _HOSTS_SHOWN} more hosts (events.jsonl has all)"
    for host, own in by_host.items():
        yield from _sharing(host, own)
    yield from _unbound(workers)
    if idle_gpus and not by_host:
        noun = "GPU" if idle_gpus == 1 else "GPUs"
        yield (
            f"all workers compute on CPUs, though {workers[0]['host']} has {idle_gpus} {noun}: "
            f"--devices {ACCELERATOR} uses them"
        )


def _host(host: str, workers: Sequence[dict[str, Any]]) -> str:
    parts = [
        f"worker {one['rank']} on {one['device']} (CPUs {one['cpus']}{_near(one['nodes'])})"
        for one in workers[:_WORKERS_SHOWN]
    ]
    more = len(workers) - _WORKERS_SHOWN
    kinds = ", ".join(dict.fromkeys(one["name"] for one in workers))
    return f"{host}: {', '.join(parts)}{f' and {more} more' if more > 0 else ''}; {kinds}"


def _near(nodes: Sequence[int]) -> str:
    if not nodes:
        return ""
    return f" of node{'' if len(nodes) == 1 else 's'} {write_cpus(nodes)}"


def _sharing(host: str, workers: Sequence[dict[str, Any]]) -> Iterator[str]:
    by_gpu: dict[str, list[dict[str, Any]]] = {}
    for worker in workers:
        by_gpu.setdefault(worker["identity"], []).append(worker)
    for together in by_gpu.values():
        if len(together) > 1:
            ranks = write_cpus(one["rank"] for one in together)
            yield f"{host}: workers {ranks} share {together[0]['device']}"


def _unbound(workers: Sequence[dict[str, Any]]) -> Iterator[str]:
    by_reason: dict[str, list[int]] = {}
    for worker in workers:
        if worker["remark"]:
            by_reason.setdefault(f"{worker['host']}: {worker['remark']}", []).append(worker["rank"])
    for reason, ranks in by_reason.items():
        who = f"worker {ranks[0]} was" if len(ranks) == 1 else f"workers {write_cpus(ranks)} were"
        yield f"{who} not bound near a GPU; {reason}"
