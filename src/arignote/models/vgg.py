"""VGG, Simonyan and Zisserman, arXiv 1409.1556; layers and names are torchvision's.

Images larger than the paper's 224 x 224 are pooled to its 7 x 7 before the dense layers, which take
what is left of smaller ones.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import ClassVar

from torch import nn

from arignote.models.base import Model
from arignote.models.images import image_shape
from arignote.models.layers import gaussian, he


class VGG16(Model):
    """Configuration D: 138,357,544 parameters for 1000 classes at 224 x 224."""

    defaults = {
        # Theano-MPI's vgg16.py: rate 0.002 for batch 64, 40 epochs; the paper, section 3.1: 0.01
        # for 256, divided by ten three times, 74 epochs. Decay and momentum are the same.
        "train.epochs": 40,
        "train.batch_size": 64,
        "train.augment": "crop+mirror",
        "optimizer.learning_rate": 0.002,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        # Theano-MPI, as Caffe.
        "optimizer.decay_all": False,
        "optimizer.bias_rate_factor": 2.0,
        "schedule.name": "step",
        "schedule.milestones": [15, 30, 35],
        # Theano-MPI: n workers of batch 64 reach n times the rate in 5 epochs.
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 64,
        "schedule.warmup": "geometric",
    }
    name = "vgg16"
    stages: ClassVar[tuple[tuple[int, int], ...]] = (
        *((64, 2), (128, 2), (256, 3)),
        *((512, 3), (512, 3)),
    )
    """(channels, convolutions) between the pools."""
    dense = 4096
    """Units of the two hidden dense layers."""

    def build(self) -> nn.Module:
        """3x3 convolutions in stages that each end in a pool, then three dense layers.

        Initial weights are He's and N(0, 0.01^2) in dense layers, as in torchvision. (The paper
        began from a shallower net's; Theano-MPI with Glorot's, which 16 ReLU layers shrink.)

        Raises:
            UserError: the images are smaller than 32 x 32.
        """
        halvings = len(self.stages)
        channels, height, width = image_shape(self.dataset, self.name, least=2**halvings)
        rows, columns = (min(7, side // 2**halvings) for side in (height, width))
        layers: list[nn.Module] = []
        for outputs, convolutions in self.stages:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU()]
                channels = outputs
            layers.append(nn.MaxPool2d(2))
        he(layers)
        classifier = nn.Sequential(
            *(nn.Linear(channels * rows * columns, self.dense), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(self.dense, self.dense), nn.ReLU(), nn.Dropout(0.5)),
            nn.Linear(self.dense, len(self.dataset.classes)),
        )
        for layer in classifier:
            if isinstance(layer, nn.Linear):
                gaussian(layer, 0.01)
        return nn.Sequential(
            OrderedDict[str, nn.Module](
                features=nn.Sequential(*layers),
                avgpool=nn.AdaptiveAvgPool2d((rows, columns)),
                flatten=nn.Flatten(),
                classifier=classifier,
            )
        )


class VGG11(VGG16):
    """Configuration A: 132,863,336 parameters for 1000 classes at 224 x 224.

    Theano-MPI's history has it to begin VGG16 from. Its settings are VGG16's.
    """

    name = "vgg11"
    stages = ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))
