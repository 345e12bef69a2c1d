"""From a worker's memory to its device: batches as the module takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from arignote.config.settings import Settings
from arignote.data.base import Batch, Dataset
from arignote.data.images import ImageDataset
from arignote.data.windows import Size, Windows
from arignote.loading.pool import Want
from arignote.trainer.device_defaults import wants_channels_last


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
    whole: ImageDataset | None = None
    """Of whose images whole ones come, to be cropped and mirrored there; None: they come as
    samples."""
    seed: int = 0
    """Of these windows."""

    def place(self, batch: Batch, want: Want) -> Batch:
        """`batch`, which is what was wanted, on the device."""
        inputs, targets = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        if self.whole is not None:
            windows = self.whole.windows(want.split, want.indices, seed=self.seed, epoch=want.epoch)
            height, width = self.whole.sample_shape[1:]
            inputs = cut_windows(inputs, windows, (height, width))
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


def open_placing(
    settings: Settings, dataset: Dataset, module: nn.Module, device: torch.device
) -> Placing:
    """As the settings say, for batches that `module` takes, of what `fed_dataset` gives."""
    statistics, whole = None, None
    if settings.loading.normalise == "device":
        mean, deviation = dataset.mean, dataset.deviation
        statistics = channel_numbers(mean, device), channel_numbers(deviation, device)
    if settings.loading.augment == "device" and isinstance(dataset, ImageDataset):
        whole = dataset
    return Placing(
        device,
        double=settings.train.precision == "fp64",
        channels_last=wants_channels_last(settings, module),
        statistics=statistics,
        whole=whole,
        seed=settings.run.seed,
    )


def channel_numbers(numbers: Sequence[float], device: torch.device) -> torch.Tensor:
    """A number a channel, (C, 1, 1) float32."""
    return torch.tensor(numbers, dtype=torch.float32, device=device)[:, None, None]


def cut_windows(images: torch.Tensor, windows: Windows, size: Size) -> torch.Tensor:
    """`windows` of N `images` (N, H, W, C) uint8: (N, *size, C) uint8, on their device.

    The same bits as `data.augmentation` gives.
    """
    numbers = torch.from_numpy(np.stack(windows).astype(np.int64))
    y, x, mirrored = numbers.to(images.device, non_blocking=True)
    rows = _reflected(y, size[0], images.shape[1])
    columns = _reflected(x, size[1], images.shape[2])
    columns = torch.where(mirrored[:, None] == 1, columns.flip(1), columns)
    places = torch.arange(len(images), device=images.device)
    return images[places[:, None, None], rows[:, :, None], columns[:, None, :]]


def _reflected(first: torch.Tensor, count: int, length: int) -> torch.Tensor:
    """`count` places in range(length) from each `first` (N,) on, back where it ends: (N, count)."""
    places = first[:, None] + torch.arange(count, device=first.device)
    return (length - 1) - ((length - 1) - places.abs()).abs()


def normalised(images: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """(x - mean) / deviation of each channel: (N, H, W, C) uint8 to (N, C, H, W) float32.

    `mean` and `deviation`: see `channel_numbers`. The same bits as `data.images.normalise`.
    """
    return images.permute(0, 3, 1, 2).float().sub_(mean).div_(deviation)
