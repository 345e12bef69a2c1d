"""Wide residual networks, Zagoruyko and Komodakis, arXiv 1605.07146, for images of about 32 pixels.

Depth n = 6 N + 4 and width k: three groups of N blocks with 16 k, 32 k and 64 k channels. A block
normalises before it convolves:

    y = shortcut(x) + conv(ReLU(norm(conv(ReLU(norm(x))))))
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from arignote.models.base import Model
from arignote.models.images import image_shape
from arignote.models.layers import he


class WideResNet28x4(Model):
    """28 layers, four times as wide: 5,849,050 parameters for ten classes.

    Theano-MPI's, from Keras' examples, has Adam, 30 % dropout and no augmentation; here the
    paper's own training.
    """

    defaults = {
        # The paper, section 3: batch 128, rate 0.1, a fifth at 60, 120 and 160 of 200 epochs,
        # Nesterov momentum, decay of all parameters, crops after padding by 4, mirror images.
        "train.epochs": 200,
        "train.batch_size": 128,
        "train.augment": "crop+mirror",
        "optimizer.learning_rate": 0.1,
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": True,
        "optimizer.weight_decay": 5e-4,
        "schedule.name": "step",
        "schedule.milestones": [60, 120, 160],
        "schedule.gamma": 0.2,
        # Ours: as Goyal et al., arXiv 1706.02677.
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 128,
        "schedule.warmup": "linear",
    }
    name = "wide-resnet-28-4"
    depth = 28
    width = 4

    def build(self) -> nn.Module:
        """A 3x3 convolution, three groups of blocks, the mean over the image, one dense layer.

        Initial weights are He's.

        Raises:
            UserError: the samples are no images.
        """
        channels, _, _ = image_shape(self.dataset, self.name)
        stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        layers: list[nn.Module] = []
        inputs = 16
        for group in range(3):
            outputs = 16 * self.width * 2**group
            for place in range((self.depth - 4) // 6):
                layers.append(Block(inputs, outputs, stride=2 if group and not place else 1))
                inputs = outputs
        module = nn.Sequential(
            OrderedDict[str, nn.Module](
                stem=stem,
                blocks=nn.Sequential(*layers),
                norm=nn.BatchNorm2d(inputs),
                relu=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                classifier=nn.Linear(inputs, len(self.dataset.classes)),
            )
        )
        he(module.modules())
        return module


class WideResNet16x4(WideResNet28x4):
    """16 layers, four times as wide: 2,748,890 parameters for ten classes."""

    name = "wide-resnet-16-4"
    depth = 16


class Block(nn.Module):
    """One residual block: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride).

    Where the shape changes the shortcut is a 1x1 convolution of the normalised input.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shortcut plus residual."""
        normed = self.relu(self.norm1(x))
        shortcut: torch.Tensor = x if self.shortcut is None else self.shortcut(normed)
        residual: torch.Tensor = self.conv2(self.relu(self.norm2(self.conv1(normed))))
        return shortcut + residual
