"""Dense layers and nothing else: many parameters for little arithmetic, to measure exchanges."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

from torch import nn

from arignote.models.base import Model
from arignote.models.images import sample_elements


class MLP56M(Model):
    """3 x 4096 - 2048 - 1024 - classes: 56,648,714 parameters for ten classes at 3 x 32 x 32.

    Takes images of any shape, and flat inputs (as C x 1 x 1).
    """

    defaults = {
        "run.data": "synthetic:3x32x32,10",
        "train.epochs": 1,
        "train.batch_size": 16,
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
    }
    widths: ClassVar[tuple[int, ...]] = (4096, 4096, 4096, 2048, 1024)

    def build(self) -> nn.Module:
        """Flatten, then dense and ReLU in turns.

        Raises:
            UserError: the samples are texts.
        """
        layers: list[nn.Module] = [nn.Flatten()]
        first = sample_elements(self.dataset, "mlp-56m")
        for inputs, outputs in pairwise((first, *self.widths)):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(self.widths[-1], len(self.dataset.classes)))
