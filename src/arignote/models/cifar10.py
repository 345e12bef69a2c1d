"""A small CNN for 32x32 colour images, without batch norm, so that n workers equal one."""

from __future__ import annotations

from torch import nn

from arignote.models.base import Model


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
        """
        channels, height, width = self.dataset.sample_shape
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
