"""Residual networks, He et al., arXiv 1512.03385; layers and names are torchvision's.

    y = ReLU(shortcut(x) + F(x))

where F is two 3x3 convolutions (18 layers) or 1x1 - 3x3 - 1x1 with a quarter of the channels
inside (50 and more). As in torchvision the 3x3 convolution halves the image, in the paper the 1x1
before it. Images below 64 pixels begin with one 3x3 convolution, and nothing is halved before the
first stage (the paper's section 4.2).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from arignote.models.base import Model
from arignote.models.images import image_shape
from arignote.models.layers import gaussian, he

_SMALL = 64
"""Images with a side below this many pixels begin with a 3x3 convolution."""


class ResNet50(Model):
    """25,557,032 parameters for 1000 classes, whatever the size of the images from 64 pixels."""

    defaults = {
        # Goyal et al., arXiv 1706.02677, section 5.1, and Theano-MPI's resnet50.py: 0.1 for 256,
        # here for a worker's 32; a tenth at 30, 60 and 80 of 90 epochs; decay 1e-4, none for
        # batch norm (Goyal).
        "train.epochs": 90,
        "train.batch_size": 32,
        "train.augment": "crop+mirror",
        "optimizer.learning_rate": 0.0125,
        "optimizer.momentum": 0.9,
        # Goyal's; Theano-MPI and the paper have plain momentum.
        "optimizer.nesterov": True,
        "optimizer.weight_decay": 1e-4,
        "optimizer.decay_all": False,
        "schedule.name": "step",
        "schedule.milestones": [30, 60, 80],
        # Goyal, section 2.2: n workers reach n times the rate in 5 epochs.
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 32,
        "schedule.warmup": "linear",
    }
    name = "resnet50"
    blocks: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
    """Blocks of each stage."""
    bottleneck = True
    width = 64
    """Channels of the first stage, inside its blocks."""

    def build(self) -> nn.Module:
        """A stem, four stages of blocks, the mean over the image, one dense layer.

        Raises:
            UserError: the samples are no images.
        """
        channels, height, width = image_shape(self.dataset, self.name)
        return ResNetModule(
            channels,
            len(self.dataset.classes),
            blocks=self.blocks,
            bottleneck=self.bottleneck,
            width=self.width,
            small=min(height, width) < _SMALL,
        )


class ResNet18(ResNet50):
    """11,689,512 parameters for 1000 classes; its settings are those of `resnet50`."""

    name = "resnet18"
    blocks = (2, 2, 2, 2)
    bottleneck = False


class ResNet152(ResNet50):
    """60,192,808 parameters for 1000 classes; its settings are those of `resnet50`."""

    name = "resnet152"
    blocks = (3, 8, 36, 3)


class ResNetModule(nn.Module):
    """The network: (N, channels, H, W) -> (N, classes).

    Initial weights: He's; the last batch norm of a block has gamma = 0, so that each block begins
    as its shortcut, and the dense layer N(0, 0.01^2) (Goyal et al., section 5.1).
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        blocks: tuple[int, ...],
        bottleneck: bool,
        width: int,
        small: bool,
    ) -> None:
        super().__init__()
        if small:
            self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        stages: list[nn.Module] = []
        inputs = width
        for number, count in enumerate(blocks):
            inner = width * 2**number
            outputs = 4 * inner if bottleneck else inner
            stage: list[nn.Module] = []
            for place in range(count):
                stride = 2 if number and not place else 1
                stage.append(Block(inputs, inner, outputs, stride, bottleneck=bottleneck))
                inputs = outputs
            stages.append(nn.Sequential(*stage))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(inputs, classes)
        he(self.modules())
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.last_norm().weight)
        gaussian(self.fc, 0.01)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores of images."""
        x: torch.Tensor = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        scores: torch.Tensor = self.fc(x.mean(dim=(2, 3)))
        return scores


class Block(nn.Module):
    """One residual block: (N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""

    def __init__(
        self, inputs: int, inner: int, outputs: int, stride: int, *, bottleneck: bool
    ) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        if bottleneck:
            self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
            self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        else:
            self.conv1 = nn.Conv2d(inputs, inner, 3, stride=stride, padding=1, bias=False)
            self.conv2 = nn.Conv2d(inner, outputs, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(inner), nn.BatchNorm2d(inner)
        if bottleneck:
            self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)
        self.bottleneck = bottleneck
        self.downsample: nn.Module | None = None
        if stride > 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def last_norm(self) -> nn.BatchNorm2d:
        """The one before the sum."""
        return self.bn3 if self.bottleneck else self.bn2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shortcut plus residual."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        if self.bottleneck:
            x = self.bn3(self.conv3(self.relu(x)))
        summed: torch.Tensor = self.relu(shortcut + x)
        return summed
