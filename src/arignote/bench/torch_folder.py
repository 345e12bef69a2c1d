"""What users of PyTorch do with a folder of images: a Dataset of files, read with Pillow.

The transforms are torchvision's, operation by operation, without its package: Resize(N, bilinear),
CenterCrop(N), RandomHorizontalFlip(), ToTensor(), Normalize(mean, deviation). This module imports
what such a file would import and nothing else, since each worker of a DataLoader imports it.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

START_METHOD = "forkserver"
"""As ours: processes forked from one that uses neither MPI nor CUDA."""


class TorchFolder(Dataset[tuple[torch.Tensor, int]]):
    """Item i is (3, size, size) float32, and the number of its class.

    Args:
        mean, deviation: of each channel, in values 0..255.
        mirror: whether each second image is, at random.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        size: int,
        mean: Sequence[float],
        deviation: Sequence[float],
        *,
        mirror: bool,
    ) -> None:
        self._paths, self._labels, self._size = list(paths), list(labels), size
        self._mean = torch.tensor(mean)[:, None, None] / 255
        self._deviation = torch.tensor(deviation)[:, None, None] / 255
        self._mirror = mirror

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with Image.open(self._paths[index]) as file:
            image = file.convert("RGB")
        image = _centre(_shorter_side(image, self._size), self._size)
        if self._mirror and torch.rand(1) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
        inputs = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return inputs.sub_(self._mean).div_(self._deviation), self._labels[index]


def _shorter_side(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    if width <= height:
        target = (size, int(size * height / width))
    else:
        target = (int(size * width / height), size)
    return image.resize(target, Image.Resampling.BILINEAR)


def _centre(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


class Batches:
    """A batch sampler that is told which batches the next epoch has."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def data_loader(
    dataset: TorchFolder, batches: Batches, workers: int
) -> DataLoader[tuple[torch.Tensor, int]]:
    """As PyTorch's documentation advises for a training on CPUs; what is not said is its default.

    That is: two batches ahead a worker, one thread in each worker.
    """
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context=START_METHOD,
        worker_init_fn=_end_with_its_user,
    )


def _end_with_its_user(worker: int) -> None:
    """Have this worker end when the process that uses it is gone, even by SIGKILL.

    Torch looks for the parent that the kernel knows, which is the fork server; and that stays as
    long as a worker does.
    """
    user = multiprocessing.parent_process()
    assert user is not None

    def wait() -> None:
        user.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
