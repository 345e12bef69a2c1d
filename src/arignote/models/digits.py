"""Two small models for 8x8 digits: the first things to run, seconds to train."""

from __future__ import annotations

from torch import nn

from arignote.models.base import Model
from arignote.models.images import image_shape, sample_elements


class DigitsMLP(Model):
    """64 - 128 - classes, 9,610 parameters for ten classes."""

    defaults = {
        "run.data": "digits",
        "train.epochs": 20,
        "train.batch_size": 32,
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "schedule.name": "cosine",
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 64,
    }

    def build(self) -> nn.Module:
        """Flatten, dense, ReLU, dense.

        Raises:
            UserError: the samples are texts.
        """
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(sample_elements(self.dataset, "digits-mlp"), 128),
            nn.ReLU(),
            nn.Linear(128, len(self.dataset.classes)),
        )


class DigitsCNN(Model):
    """Two convolutions and one dense layer, 21,546 parameters for ten classes."""

    defaults = {
        "run.data": "digits",
        "train.epochs": 15,
        "train.batch_size": 32,
        "optimizer.learning_rate": 0.05,
        "optimizer.momentum": 0.9,
        "schedule.name": "cosine",
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 64,
    }

    def build(self) -> nn.Module:
        """conv 16 - conv 32 - pool - dense.

        Raises:
            UserError: the samples are no images of at least 2 x 2.
        """
        channels, height, width = image_shape(self.dataset, "digits-cnn", least=2)
        return nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (height // 2) * (width // 2), 32),
            nn.ReLU(),
            nn.Linear(32, len(self.dataset.classes)),
        )
