"""Many tensors as one contiguous vector, of which they become views."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from arignote.frameworks.base import Allocate


def by_dtype(tensors: Iterable[torch.Tensor]) -> list[list[torch.Tensor]]:
    """The tensors in groups of one dtype and device each, in order of first appearance."""
    groups: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    return list(groups.values())


def vector_for(tensors: Sequence[torch.Tensor], allocate: Allocate) -> torch.Tensor:
    """A zeroed vector that holds all of `tensors` (of one dtype and device)."""
    elements = sum(tensor.numel() for tensor in tensors)
    return allocate(elements, tensors[0].dtype, tensors[0].device)


def views(vector: torch.Tensor, like: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Consecutive parts of `vector`, shaped as the tensors of `like`."""
    parts, start = [], 0
    for tensor in like:
        parts.append(vector[start : start + tensor.numel()].view(tensor.shape))
        start += tensor.numel()
    return parts


def move_into(vector: torch.Tensor, tensors: Sequence[torch.Tensor]) -> None:
    """Copy `tensors` into `vector` and make each of them a view of its part."""
    with torch.no_grad():
        for tensor, view in zip(tensors, views(vector, tensors), strict=True):
            view.copy_(tensor)
            tensor.data = view
