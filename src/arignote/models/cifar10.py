"""Small CNNs for 32x32 colour images, without batch norm, so that n workers equal one."""

from __future__ import annotations

import torch
from torch import nn

from arignote.models.base import Model
from arignote.models.images import image_shape, side_after
from arignote.models.layers import gaussian


class Cifar10CNN(Model):
    """Three convolutions and two dense layers, 358,346 parameters for ten classes at 32 x 32.

    Needs images of at least 8 x 8; names no data of its own, since CIFAR-10 is not shipped.
    """

    defaults = {
        "train.epochs": 12,
        "train.batch_size": 64,
        "train.augment": "mirror",
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": True,
        "optimizer.weight_decay": 5e-4,
        "optimizer.decay_all": False,
        "schedule.name": "cosine",
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 128,
    }

    def build(self) -> nn.Module:
        """conv5 32 - pool - conv3 64 - pool - conv3 128 - pool - dense 128 - dense.

        ReLU and the maximum commute; after pooling ReLU has a quarter of the work.

        Raises:
            UserError: the samples are no images of at least 8 x 8.
        """
        channels, height, width = image_shape(self.dataset, "cifar10-cnn", least=8)
        return nn.Sequential(
            nn.Conv2d(channels, 32, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(128 * (height // 8) * (width // 8), 128),
            nn.ReLU(),
            nn.Linear(128, len(self.dataset.classes)),
        )


class Cifar10Toy(Model):
    """Theano-MPI's toy for CIFAR-10: 351,946 parameters for ten classes at 32 x 32.

    It sees the middle seven eighths of an image (28 of 32 pixels); what is random about
    Theano-MPI's crop does the augmentation.
    """

    defaults = {
        # All from Theano-MPI's cifar10.py; its batch of 256 was that of all workers together.
        "train.epochs": 70,
        "train.batch_size": 256,
        "train.augment": "crop+mirror",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-4,
        "optimizer.decay_all": False,
        "optimizer.bias_rate_factor": 2.0,
        "schedule.name": "step",
        "schedule.milestones": [50, 60, 65],
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 256,
        "schedule.warmup": "geometric",
    }

    def build(self) -> nn.Module:
        """conv5 64 - pool - conv5 128 - pool - conv3 64 - dense 256 - dense, nothing padded.

        Raises:
            UserError: the images are smaller than 28 x 28.
        """
        channels, *sides = image_shape(self.dataset, "cifar10-toy", least=28)
        rows, columns = (side * 7 // 8 for side in sides)
        left = [
            side_after(side, (5, 1, 0), (2, 2, 0), (5, 1, 0), (2, 2, 0), (3, 1, 0))
            for side in (rows, columns)
        ]
        convolutions = (
            nn.Conv2d(channels, 64, 5),
            nn.Conv2d(64, 128, 5),
            nn.Conv2d(128, 64, 3),
        )
        for convolution in convolutions:
            gaussian(convolution, 0.05)
        hidden = nn.Linear(64 * left[0] * left[1], 256)
        gaussian(hidden, 0.001)
        last = nn.Linear(256, len(self.dataset.classes))
        gaussian(last, 0.005)
        return nn.Sequential(
            CentreCrop(rows, columns),
            *(convolutions[0], nn.ReLU(), nn.MaxPool2d(2)),
            *(convolutions[1], nn.ReLU(), nn.MaxPool2d(2)),
            *(convolutions[2], nn.ReLU()),
            *(nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(0.5)),
            last,
        )


class CentreCrop(nn.Module):
    """The middle `rows` x `columns` of images (N, C, H, W)."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, rows, columns)."""
        top = (images.shape[2] - self.rows) // 2
        left = (images.shape[3] - self.columns) // 2
        return images[:, :, top : top + self.rows, left : left + self.columns]
