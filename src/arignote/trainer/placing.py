"""From a worker's memory to its device: batches as the module takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from arignote.data.base import Batch


@dataclass(frozen=True)
class Placing:
    """Where batches go, and what is done with them there."""

    device: torch.device
    double: bool
    """Whether floats become float64."""
    channels_last: bool
    """Whether images have their channels innermost in memory."""
    statistics: tuple[torch.Tensor, torch.Tensor] | None = None
    """Mean and deviation of each channel, (C, 1, 1) float32, there; None: inputs are normalised
    already, or no images."""

    def place(self, batch: Batch) -> Batch:
        """`batch` on the device."""
        inputs, targets = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        if self.statistics is not None:
            inputs = normalised(inputs, *self.statistics)
        if self.double:
            inputs, targets = (
                tensor.double() if tensor.is_floating_point() else tensor
                for tensor in (inputs, targets)
            )
        if self.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        elif self.statistics is not None:
            inputs = inputs.contiguous()
        return Batch(inputs, targets)


def channel_numbers(numbers: Sequence[float], device: torch.device) -> torch.Tensor:
    """A number a channel, (C, 1, 1) float32."""
    return torch.tensor(numbers, dtype=torch.float32, device=device)[:, None, None]


def normalised(images: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """(x - mean) / deviation of each channel: (N, H, W, C) uint8 to (N, C, H, W) float32.

    `mean` and `deviation`: see `channel_numbers`. The same bits as `data.images.normalise`.
    """
    return images.permute(0, 3, 1, 2).float().sub_(mean).div_(deviation)
