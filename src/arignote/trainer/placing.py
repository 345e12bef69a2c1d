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
    mean: Sequence[float] = ()
    """Of each channel; empty: inputs are normalised already, or no images."""
    deviation: Sequence[float] = ()

    def place(self, batch: Batch) -> Batch:
        """`batch` on the device."""
        inputs, targets = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        if self.mean:
            inputs = normalised(inputs, self.mean, self.deviation)
        if self.double:
            inputs, targets = (
                tensor.double() if tensor.is_floating_point() else tensor
                for tensor in (inputs, targets)
            )
        if self.channels_last and inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        elif self.mean:
            inputs = inputs.contiguous()
        return Batch(inputs, targets)


def normalised(
    images: torch.Tensor, mean: Sequence[float], deviation: Sequence[float]
) -> torch.Tensor:
    """(x - mean) / deviation of each channel: (N, H, W, C) uint8 to (N, C, H, W) float32.

    The same bits as `data.images.normalise`.
    """
    planes = images.permute(0, 3, 1, 2).float()
    shift, scale = (planes.new_tensor(numbers)[:, None, None] for numbers in (mean, deviation))
    return planes.sub_(shift).div_(scale)
