"""Nested state (dicts, lists, tuples, numbers, strings, tensors) in one safetensors file.

Tensors are stored as they are; the structure around them is JSON in the file's metadata,
with each tensor replaced by its key. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

_STRUCTURE = "structure"


def pack(state: Any) -> tuple[dict[str, torch.Tensor], str]:
    """(tensors by key, structure as JSON) of `state`.

    Raises:
        TypeError: something in it is neither a container, a plain value nor a tensor.
    """
    tensors: dict[str, torch.Tensor] = {}

    def walk(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            key = str(len(tensors))
            # A copy of its own: safetensors refuses tensors that share their memory.
            tensors[key] = value.detach().cpu().clone().contiguous()
            return {"tensor": key}
        if isinstance(value, dict):
            # As pairs: JSON would turn the optimizer's integer keys into text.
            return {"dict": [[walk(key), walk(item)] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            kind = "tuple" if isinstance(value, tuple) else "list"
            return {kind: [walk(item) for item in value]}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}: {value!r}")

    return tensors, json.dumps(walk(state))


def unpack(tensors: dict[str, torch.Tensor], structure: str) -> Any:
    """The inverse of `pack`."""

    def walk(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, content),) = value.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "dict":
            return {walk(key): walk(item) for key, item in content}
        items = [walk(item) for item in content]
        return tuple(items) if kind == "tuple" else items

    return walk(json.loads(structure))


def save_state(path: Path, state: Any) -> None:
    """Write `state` to `path`.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    tensors, structure = pack(state)
    path.write_bytes(safetensors.torch.save(tensors, metadata={_STRUCTURE: structure}))


def load_state(path: Path) -> Any:
    """Read what `save_state` wrote."""
    with safetensors.safe_open(path, framework="pt") as file:
        structure = file.metadata()[_STRUCTURE]
        # Copies: the file's own pages would vanish under us with the file.
        tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
    return unpack(tensors, structure)


def load_plain_items(path: Path, names: Collection[str]) -> dict[str, Any]:
    """Those items of a saved dict that are called `names` and hold no tensors.

    The tensors of the others, an optimizer's say, are not read.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        (content,) = json.loads(file.metadata()[_STRUCTURE]).values()
    chosen = {"dict": [[key, item] for key, item in content if key in names]}
    items: dict[str, Any] = unpack({}, json.dumps(chosen))
    return items
