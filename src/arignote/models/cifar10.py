"""A small CNN for 32x32 colour images."""

from __future__ import annotations

from torch import nn

from arignote.models.base import Model


class Cifar10CNN(Model):
    """Placeholder."""

    defaults = {
        "run.data": "synthetic:3x32x32,10",
        "train.epochs": 12,
        "train.batch_size": 64,
        "train.augment": "mirror",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        "schedule.name": "cosine",
    }

    def build(self) -> nn.Module:
        """To be chosen."""
        return nn.Sequential()
