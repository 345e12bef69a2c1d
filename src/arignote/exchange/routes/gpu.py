"""What the routes between GPUs have in common: what they refuse, and memory that they share."""

from __future__ import annotations

from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

import torch

from arignote.comm.base import World
from arignote.errors import UserError

_PROCESS = uuid4().hex
_SHARED: WeakValueDictionary[str, torch.Tensor] = WeakValueDictionary()
"""Vectors of this process that other threads of it may look for."""


def check_cuda(route: str, world: World) -> None:
    """Collective: can every worker's torch compute on a GPU?

    Raises:
        UserError: one cannot; says which, and what works without.
    """
    problem = ""
    if torch.version.cuda is None:
        problem = "its torch is built without CUDA"
    elif not torch.cuda.is_available():
        problem = "its torch sees none"
    _refuse(route, world, world.gather(problem, f"the start of {route}"))


def check_devices(route: str, world: World, device: torch.device, allowed: tuple[str, ...]) -> None:
    """Collective: is every worker's vector on a device that the route takes?

    Raises:
        UserError: one is not.
    """
    problem = "" if device.type in allowed else f"its vector is on {device}"
    _refuse(route, world, world.gather(problem, f"the start of {route}"))


def _refuse(route: str, world: World, problems: list[str]) -> None:
    hosts = len({peer.host for peer in world.peers})
    for peer, problem in zip(world.peers, problems, strict=True):
        if problem:
            raise UserError(
                f"{route} needs every worker on a GPU, and {peer} has none: {problem}; on CPUs use "
                f"{'asa' if hosts > 1 else 'shm'}:fp32"
            )


def gpu_name(device: torch.device) -> str:
    """The same for one GPU in every process of a host, whatever number it has there."""
    return str(torch.cuda.get_device_properties(device).uuid)


def share(world: World, vector: torch.Tensor) -> list[torch.Tensor]:
    """Everybody's `vector`, by rank; collective.

    Raises:
        UserError: a worker does not see the GPU of another.
    """
    what = "sharing the memory of GPUs"
    key = uuid4().hex
    _SHARED[key] = vector
    processes = world.gather(_PROCESS, what)
    # One handle for each that opens it: torch counts who still uses the memory.
    mine = processes[world.rank]
    away = [str(rank) for rank, process in enumerate(processes) if process != mine]
    handles = {rank: _handle(vector) for rank in away}
    offers = world.gather({"key": key, "handles": handles}, what)
    vectors, problem = [], ""
    for rank, offer in enumerate(offers):
        if processes[rank] == mine:
            vectors.append(_SHARED[offer["key"]])
            continue
        try:
            vectors.append(_opened(offer["handles"][str(world.rank)], vector))
        except (LookupError, RuntimeError) as error:
            problem = f"worker {world.rank} cannot open the memory of worker {rank}'s GPU ({error})"
            break
    for text in world.gather(problem, what):
        if text:
            raise UserError(
                f"{text}: let every worker see all GPUs of the host (CUDA_VISIBLE_DEVICES), or use "
                "allreduce:fp32"
            )
    return vectors


def _handle(vector: torch.Tensor) -> dict[str, Any]:
    """What another process needs to open `vector`, as JSON can hold it."""
    storage: Any = vector.untyped_storage()
    _, *fields = storage._share_cuda_()
    return {
        "gpu": gpu_name(vector.device),
        "offset": vector.storage_offset(),
        "fields": [f.hex() if isinstance(f, bytes) else f for f in fields],
    }


def _opened(handle: dict[str, Any], like: torch.Tensor) -> torch.Tensor:
    """Another process's vector, of the same elements and dtype as `like`."""
    here = {gpu_name(torch.device("cuda", n)): n for n in range(torch.cuda.device_count())}
    if handle["gpu"] not in here:
        raise LookupError(f"GPU {handle['gpu']} is hidden from it")
    device = torch.device("cuda", here[handle["gpu"]])
    fields = [
        bytes.fromhex(field) if isinstance(field, str) else field for field in handle["fields"]
    ]
    storage = torch.UntypedStorage._new_shared_cuda(device.index, *fields)
    opened = torch.empty(0, dtype=like.dtype, device=device)
    return opened.set_(storage, handle["offset"], like.shape, like.stride())
