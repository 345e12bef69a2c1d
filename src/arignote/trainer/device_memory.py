"""Whether an accelerator has room for the workers that share it, told before they fill it; and an
error of its memory as one line.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from arignote import accelerator
from arignote.comm.base import World
from arignote.comm.location import Location, sharers
from arignote.config.rule_options import BSPOptions, parse_rule
from arignote.config.settings import Settings
from arignote.errors import UserError
from arignote.models.base import Model

_GIB = 2.0**30
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_LESS = (
    "use a smaller --batch-size or model, fewer workers there, another device, or end what else "
    "uses it (nvidia-smi)"
)


@dataclass(frozen=True)
class Claim:
    """What one worker needs of its device, and what it finds there."""

    device: str
    """As in `cuda:0 of host a (NVIDIA H100)`."""
    key: str
    """The same for one device in all claims."""
    needed_bytes: int
    free_bytes: int
    total_bytes: int


def bytes_to_train(model: Model, module: nn.Module, settings: Settings, workers: int) -> int:
    """At least: weights, buffers, gradients and what the optimizer keeps; not activations."""
    # Of an optimizer that the model makes itself, nothing is known yet.
    ours = type(model).optimizer is Model.optimizer
    moments = _moments(settings, workers) if ours else 0.0
    weights = sum(p.numel() * p.element_size() for p in module.parameters())
    trained = sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad)
    buffers = sum(b.numel() * b.element_size() for b in module.buffers())
    return weights + buffers + trained + int(trained * moments)


def _moments(settings: Settings, workers: int) -> float:
    """Numbers that a worker's optimizer keeps for each weight, at least."""
    optimizer = settings.optimizer
    own = {"sgd": 0, "rmsprop": 1, "adam": 2, "adamw": 2}[optimizer.name]
    own += int(optimizer.momentum > 0)
    # bsp may share the update out.
    shared = isinstance(parse_rule(settings.run.rule)[1], BSPOptions)
    return own / workers if shared else own


def require_room(world: World, device: torch.device, needed_bytes: int) -> None:
    """Collective: have all devices room for what their workers need together?

    Raises:
        UserError: one has not; names it, and what is free and needed.
    """
    mine: dict[str, Any] | None = None
    if accelerator.is_one(device):
        mine = asdict(_claim(world, device, needed_bytes))
    found = world.gather(mine, "the room on the devices")
    problem = full([Claim(**one) for one in found if one is not None])
    if problem:
        raise UserError(problem)


def _claim(world: World, device: torch.device, needed_bytes: int) -> Claim:
    """Of this worker.

    Raises:
        UserError: there is not even room to ask.
    """
    host = world.peers[world.rank].host
    named = f"{device} of host {host} ({accelerator.name(device.index)})"
    try:
        free, total = accelerator.memory_bytes(device.index)
    except RuntimeError as error:
        if not accelerator.is_out_of_memory(error):
            raise
        raise UserError(
            f"worker {world.rank}: {named} is full, there is no room even to begin: {_LESS}"
        ) from None
    key = f"{accelerator.identity(device)} of {host}"
    return Claim(named, key, needed_bytes, free, total)


def full(claims: Sequence[Claim]) -> str:
    """A line on the first device that has less than is claimed of it; empty: there is none."""
    for first in claims:
        own = [claim for claim in claims if claim.key == first.key]
        needed, free = sum(one.needed_bytes for one in own), min(one.free_bytes for one in own)
        if needed > free:
            each = "" if len(own) == 1 else f" for the {len(own)} workers on it"
            return (
                f"{first.device} has {_gib(free)} of {_gib(first.total_bytes)} GiB free, but "
                f"weights, gradients and optimizer need at least {_gib(needed)} GiB{each}: {_LESS}"
            )
    return ""


def explained(error: BaseException, where: Sequence[Location], rank: int) -> BaseException:
    """A `UserError` of one line if `error` is a device's that is out of memory, else `error`."""
    # A server has no place among the workers, nor has anybody before they have met.
    if rank >= len(where) or not where[rank].name or not accelerator.is_out_of_memory(error):
        return error
    own, together = where[rank], sharers(where, rank)
    asked = bytes_asked(error)
    wanted = "" if asked is None else f" for {_gib(asked)} GiB more"
    try:
        free, total = accelerator.memory_bytes(torch.device(own.device).index)
        left = f" ({_gib(free)} of {_gib(total)} GiB free)"
    except RuntimeError:
        left = ""
    shared = f", which {len(together)} workers share," if len(together) > 1 else ""
    device = f"{own.device} of host {own.host} ({own.name})"
    return UserError(f"worker {rank}: {device}{shared} has no room{wanted}{left}: {_LESS}")


def bytes_asked(error: BaseException) -> int | None:
    """How much was asked for when memory ran out; None: the error does not tell."""
    match = re.search(r"Tried to allocate ([\d.]+) (bytes|[KMGT]iB)", str(error))
    if match is None:
        return None
    return int(float(match.group(1)) * 1024 ** _UNITS.index(match.group(2)))


def _gib(size: float) -> str:
    return f"{size / _GIB:.2f}"
