"""GoogLeNet, Szegedy et al., arXiv 1409.4842, with its two auxiliary heads.

    loss = main + 0.3 (head after 4a + head after 4d)      in training; validated is main alone

The paper says nothing of initial weights; they are those of Theano-MPI's googlenet.py. Pools pad by
one pixel where Caffe rounds up, which leaves the same sizes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from arignote.data.base import Batch
from arignote.models.base import Model
from arignote.models.images import image_shape, side_after
from arignote.models.layers import gaussian, local_response_norm

_TO_4A = ((7, 2, 3), (3, 2, 1), (3, 2, 1), (3, 2, 1))
"""What makes an image smaller before the heads: the first convolution and three pools."""


class GoogLeNet(Model):
    """13,378,280 parameters for 1000 classes at 224 x 224, 6,998,552 of them without the heads.

    Images of any size. In training the loss that is shown has the heads' share.
    """

    defaults = {
        # Theano-MPI's googlenet.py: rate 0.005 for batch 32, momentum, decay, and 90 epochs of a
        # curve of 240. (The paper: momentum 0.9, 4 % less every 8 epochs.)
        "train.epochs": 90,
        "train.batch_size": 32,
        "train.augment": "crop+mirror",
        "optimizer.learning_rate": 0.005,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 2e-4,
        # Theano-MPI, as Caffe.
        "optimizer.decay_all": False,
        "optimizer.bias_rate_factor": 2.0,
        "schedule.name": "poly",
        "schedule.power": 0.5,
        "schedule.horizon_epochs": 240,
        # Theano-MPI: n workers of batch 32 reach n times the rate in 5 epochs.
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 32,
        "schedule.warmup": "geometric",
    }
    takes_probabilities = True
    auxiliary_weight = 0.3
    """Of each head's loss (the paper's section 5)."""

    def build(self) -> nn.Module:
        """See `GoogLeNetModule`.

        Raises:
            UserError: the samples are no images.
        """
        channels, height, width = image_shape(self.dataset, "googlenet")
        sides = side_after(height, *_TO_4A), side_after(width, *_TO_4A)
        return GoogLeNetModule(channels, len(self.dataset.classes), sides)

    def loss(self, batch: Batch) -> torch.Tensor:
        """Cross entropy; in training with that of the auxiliary heads."""
        module: Any = self.module
        loss = nn.functional.cross_entropy(module(batch.inputs), batch.targets)
        # Taken away, for they hold on to the whole graph.
        heads, module.auxiliary = module.auxiliary, []
        for scores in heads:
            head = nn.functional.cross_entropy(scores, batch.targets)
            loss = loss + self.auxiliary_weight * head
        return loss


class GoogLeNetModule(nn.Module):
    """The network: (N, channels, H, W) -> (N, classes).

    In training `auxiliary` holds the scores of the two heads on the batch. `sides` are height and
    width after 4a.
    """

    def __init__(self, channels: int, classes: int, sides: tuple[int, int]) -> None:
        super().__init__()
        # Table 1 of the paper: 1x1, 3x3 reduced, 3x3, 5x5 reduced, 5x5, pool projected.
        self.until_4a = nn.Sequential(
            _convolution(channels, 64, 7, 0.1, stride=2),
            nn.MaxPool2d(3, stride=2, padding=1),
            local_response_norm(),
            _convolution(64, 64, 1, 0.1),
            _convolution(64, 192, 3, 0.03),
            local_response_norm(),
            nn.MaxPool2d(3, stride=2, padding=1),
            Inception(192, 64, 96, 128, 16, 32, 32),
            Inception(256, 128, 128, 192, 32, 96, 64),
            nn.MaxPool2d(3, stride=2, padding=1),
            Inception(480, 192, 96, 208, 16, 48, 64),
        )
        self.until_4d = nn.Sequential(
            Inception(512, 160, 112, 224, 24, 64, 64),
            Inception(512, 128, 128, 256, 24, 64, 64),
            Inception(512, 112, 144, 288, 32, 64, 64),
        )
        self.until_5b = nn.Sequential(
            Inception(528, 256, 160, 320, 32, 128, 128),
            nn.MaxPool2d(3, stride=2, padding=1),
            Inception(832, 256, 160, 320, 32, 128, 128),
            Inception(832, 384, 192, 384, 48, 128, 128),
        )
        classifier = nn.Linear(1024, classes)
        gaussian(classifier, 0.01)
        self.classifier = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4), classifier
        )
        self.heads = nn.ModuleList(_head(inputs, classes, sides) for inputs in (512, 528))
        self.auxiliary: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores of images."""
        early = self.until_4a(images)
        middle = self.until_4d(early)
        self.auxiliary = []
        if self.training:
            self.auxiliary = [head(x) for head, x in zip(self.heads, (early, middle), strict=True)]
        scores: torch.Tensor = self.classifier(self.until_5b(middle))
        return scores


class Inception(nn.Module):
    """Four branches: (N, inputs, H, W) -> (N, one + three + five + projected, H, W)."""

    def __init__(
        self,
        inputs: int,
        one: int,
        three_reduced: int,
        three: int,
        five_reduced: int,
        five: int,
        projected: int,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                _convolution(inputs, one, 1, 0.03),
                nn.Sequential(
                    _convolution(inputs, three_reduced, 1, 0.09),
                    _convolution(three_reduced, three, 3, 0.03),
                ),
                nn.Sequential(
                    _convolution(inputs, five_reduced, 1, 0.2),
                    _convolution(five_reduced, five, 5, 0.03),
                ),
                nn.Sequential(
                    nn.MaxPool2d(3, stride=1, padding=1), _convolution(inputs, projected, 1, 0.1)
                ),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branches' channels, one after the other."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def _convolution(
    inputs: int, outputs: int, kernel: int, deviation: float, stride: int = 1
) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
    gaussian(layer, deviation, bias=0.2)
    return nn.Sequential(layer, nn.ReLU())


def _head(inputs: int, classes: int, sides: tuple[int, int]) -> nn.Sequential:
    """Mean of 5x5 every 3 pixels (of what there is of smaller images), 1x1, dense, dense."""
    window = min(5, sides[0]), min(5, sides[1])
    rows, columns = (side_after(side, (min(5, side), 3, 0)) for side in sides)
    dense, last = nn.Linear(128 * rows * columns, 1024), nn.Linear(1024, classes)
    gaussian(dense, 0.01)
    gaussian(last, 0.01)
    return nn.Sequential(
        nn.AvgPool2d(window, stride=3),
        _convolution(inputs, 128, 1, 0.1),
        nn.Flatten(),
        *(dense, nn.ReLU(), nn.Dropout(0.7)),
        last,
    )
