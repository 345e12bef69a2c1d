"""Weights from elsewhere: what of a file fits the model, by name and shape, is loaded.

Worker 0 reads the file. `Rule.start` gives its weights to all others, so they have the same bits,
and no other host needs to see the file.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from arignote.errors import UserError
from arignote.frameworks.base import Replica

_WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the state dict beside other things."""
_PREFIX = "module."
"""What DistributedDataParallel and DataParallel put before each name."""
_DAMAGED = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AssertionError,
    zipfile.BadZipFile,
    safetensors.SafetensorError,
)
"""What torch and safetensors raise for files that are not what they should be."""


@dataclass(frozen=True)
class Match:
    """Which tensors of a file fit a model; names, and for `other_shape` both shapes."""

    loaded: tuple[str, ...]
    other_shape: tuple[str, ...]
    missing: tuple[str, ...]
    """Of the model, not in the file."""
    unknown: tuple[str, ...]
    """In the file, not of the model."""


def load_pretrained(path: Path, replica: Replica) -> Match:
    """Copy what fits from the file into the replica's tensors; the rest stays as it is.

    Raises:
        UserError: the file cannot be read, or nothing in it fits.
    """
    theirs, ours = read_weights(path), replica.named_tensors()
    match = match_tensors(theirs, ours)
    if not match.loaded:
        raise UserError(
            f"train.weights {path}: none of its {len(theirs)} tensors fits the model by name and "
            f"shape; the file has {_some(theirs)}, the model {_some(ours)}"
        )
    replica.load_named_tensors(ours | {name: theirs[name] for name in match.loaded})
    replica.publish_parameters()
    return match


def match_tensors(theirs: Mapping[str, torch.Tensor], ours: Mapping[str, torch.Tensor]) -> Match:
    """Compare the tensors of a file with those of a model."""
    common = [name for name in ours if name in theirs]
    fitting = {name for name in common if theirs[name].shape == ours[name].shape}
    return Match(
        loaded=tuple(name for name in common if name in fitting),
        other_shape=tuple(
            f"{name} {tuple(theirs[name].shape)} in the file, {tuple(ours[name].shape)} here"
            for name in common
            if name not in fitting
        ),
        missing=tuple(name for name in ours if name not in theirs),
        unknown=tuple(name for name in theirs if name not in ours),
    )


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The named tensors of a .safetensors file, or of a .pth or .pt that torch.save wrote.

    The latter are unpickled as tensors and plain containers only, nothing in them is run. A state
    dict inside {"state_dict": ...} or {"model": ...} is found, and `module.` before every name is
    left out.

    Raises:
        UserError: the file cannot be read, or holds no named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(
            f"train.weights {path} holds more than tensors and plain containers, which is never "
            "unpickled: save the model's state_dict() alone"
        ) from None
    except _DAMAGED as error:
        # torch's explanation goes on for several sentences, or there is none.
        reason = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
        raise UserError(f"train.weights {path} cannot be read ({reason}): get it again") from None
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {k: v for k, v in items if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if not tensors:
        raise UserError(
            f"train.weights {path} holds no named tensors: save the model's state_dict()"
        )
    if all(name.startswith(_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    return tensors


def _some(tensors: Mapping[str, torch.Tensor]) -> str:
    shown = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(tensors.items())[:2]]
    return ", ".join(shown) + (", ..." if len(tensors) > len(shown) else "")
