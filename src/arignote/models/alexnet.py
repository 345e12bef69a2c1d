"""AlexNet: Krizhevsky's of 2012, that of "One weird trick", and one for small images.

Where the images are smaller than the papers' the first dense layer takes what the convolutions
leave of them; from 255 pixels those are pooled to the papers' 6 x 6.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from arignote.models.base import Model
from arignote.models.images import image_shape, side_after
from arignote.models.layers import PixelUnits, gaussian, he, local_response_norm

_WINDOWS = ((11, 4, 2), (3, 2, 0), (3, 2, 0), (3, 2, 0))
"""What makes an image smaller: the first convolution and three pools."""
_LEAST = 63
"""Pixels of a side for which those leave one."""


def _pooled(height: int, width: int) -> tuple[int, int]:
    """Height and width of what the dense layers get."""
    return min(6, side_after(height, *_WINDOWS)), min(6, side_after(width, *_WINDOWS))


class AlexNet(Model):
    """Krizhevsky et al. 2012: 60,965,224 parameters for 1000 classes at 224 x 224 or 227 x 227.

    Grouped as for the paper's two GPUs, with local response normalisation. That and the initial
    weights are meant for pixels of 0 to 255 less their mean, so inputs are brought to their scale
    first. Differs in the biases that begin above 0: 0.1, as in Caffe and Theano-MPI (with the
    paper's 1 the loss stayed flat in Caffe's replication).
    """

    defaults = {
        # Krizhevsky 2012, section 5, but for what Theano-MPI's alex_net.py fixed: the milestones
        # (the paper divides by hand), 70 epochs (the paper: about 90), and the biases' rate.
        "train.epochs": 70,
        "train.batch_size": 128,
        # The paper, section 4.1: random crops of 224 from 256, and mirror images.
        "train.augment": "crop+mirror",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        "optimizer.decay_all": False,
        "optimizer.bias_rate_factor": 2.0,
        "schedule.name": "step",
        "schedule.milestones": [20, 40, 60],
        # Theano-MPI: n workers of batch 128 reach n times the rate in 5 epochs.
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 128,
        "schedule.warmup": "geometric",
    }
    dense = 4096
    """Units of the two hidden dense layers."""

    def build(self) -> nn.Module:
        """Five convolutions, three dense layers.

        Initial weights: N(0, 0.01^2) (the paper); of the hidden dense layers N(0, 0.005^2)
        (Caffe, Theano-MPI).

        Raises:
            UserError: the images are smaller than 63 x 63.
        """
        channels, height, width = image_shape(self.dataset, "alexnet", least=_LEAST)
        rows, columns = _pooled(height, width)
        features = nn.Sequential(
            *(nn.Conv2d(channels, 96, 11, stride=4, padding=2), nn.ReLU()),
            *(local_response_norm(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU()),
            *(local_response_norm(), nn.MaxPool2d(3, stride=2)),
            *(nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU()),
            nn.MaxPool2d(3, stride=2),
        )
        classifier = nn.Sequential(
            *(nn.Linear(256 * rows * columns, self.dense), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(self.dense, self.dense), nn.ReLU(), nn.Dropout(0.5)),
            nn.Linear(self.dense, len(self.dataset.classes)),
        )
        convolutions = [layer for layer in features if isinstance(layer, nn.Conv2d)]
        for layer, bias in zip(convolutions, (0.0, 0.1, 0.0, 0.1, 0.1), strict=True):
            gaussian(layer, 0.01, bias)
        hidden_1, hidden_2, last = (layer for layer in classifier if isinstance(layer, nn.Linear))
        gaussian(hidden_1, 0.005, 0.1)
        gaussian(hidden_2, 0.005, 0.1)
        gaussian(last, 0.01)
        network = _assembled(features, (rows, columns), classifier)
        return nn.Sequential(OrderedDict(pixels=PixelUnits(), **dict(network.named_children())))


class AlexNetOWT(Model):
    """Krizhevsky, arXiv 1404.5997: 61,100,840 parameters for 1000 classes at 224 x 224.

    Neither groups nor normalisation. Layers and names are torchvision's `alexnet`.
    """

    defaults = {
        # torchvision's reference training of alexnet: batch 32 on each of 8 GPUs, rate 0.01 for
        # the 256 together, decay 1e-4, a tenth every 30 of 90 epochs.
        "train.epochs": 90,
        "train.batch_size": 32,
        "train.augment": "crop+mirror",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 1e-4,
        "schedule.name": "step",
        "schedule.milestones": [30, 60],
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 256,
    }
    dense = 4096
    """Units of the two hidden dense layers."""

    def build(self) -> nn.Module:
        """Five convolutions, three dense layers; torch's own initial weights, as in torchvision.

        Raises:
            UserError: the images are smaller than 63 x 63.
        """
        channels, height, width = image_shape(self.dataset, "alexnet-owt", least=_LEAST)
        rows, columns = _pooled(height, width)
        features = nn.Sequential(
            *(nn.Conv2d(channels, 64, 11, stride=4, padding=2), nn.ReLU()),
            nn.MaxPool2d(3, stride=2),
            *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
            nn.MaxPool2d(3, stride=2),
            *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
            nn.MaxPool2d(3, stride=2),
        )
        classifier = nn.Sequential(
            *(nn.Dropout(0.5), nn.Linear(256 * rows * columns, self.dense), nn.ReLU()),
            *(nn.Dropout(0.5), nn.Linear(self.dense, self.dense), nn.ReLU()),
            nn.Linear(self.dense, len(self.dataset.classes)),
        )
        return _assembled(features, (rows, columns), classifier)


class Cifar10AlexNet(Model):
    """AlexNet's proportions at 32 x 32: 9,923,530 parameters for ten classes, 95 % of them dense.

    Much to exchange for little to compute. Ours, without batch norm, so that n workers equal one;
    its settings are AlexNet's.
    """

    defaults = {
        "train.epochs": 70,
        "train.batch_size": 128,
        "train.augment": "crop+mirror",
        "optimizer.learning_rate": 0.01,
        "optimizer.momentum": 0.9,
        "optimizer.weight_decay": 5e-4,
        "optimizer.decay_all": False,
        "schedule.name": "step",
        "schedule.milestones": [20, 40, 60],
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 128,
        "schedule.warmup": "geometric",
    }
    widths = (32, 96, 128, 128, 96)
    """Channels of the convolutions: a third of AlexNet's."""
    dense = 2400
    """Units of the two hidden dense layers."""

    def build(self) -> nn.Module:
        """Five convolutions, of which three with overlapping pools, and three dense layers.

        Initial weights are He's: AlexNet's fixed 0.01 is too little for so few inputs a unit.

        Raises:
            UserError: the samples are no images.
        """
        channels, *sides = image_shape(self.dataset, "cifar10-alexnet")
        one, two, three, four, five = self.widths
        halved = ((3, 2, 1),) * 3
        rows, columns = (side_after(side, *halved) for side in sides)
        features = nn.Sequential(
            *(nn.Conv2d(channels, one, 5, padding=2), nn.ReLU()),
            nn.MaxPool2d(3, stride=2, padding=1),
            *(nn.Conv2d(one, two, 5, padding=2), nn.ReLU()),
            nn.MaxPool2d(3, stride=2, padding=1),
            *(nn.Conv2d(two, three, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(three, four, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(four, five, 3, padding=1), nn.ReLU()),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        hidden = [
            nn.Linear(five * rows * columns, self.dense),
            nn.Linear(self.dense, self.dense),
        ]
        for layer in hidden:
            gaussian(layer, (2 / layer.in_features) ** 0.5)
        last = nn.Linear(self.dense, len(self.dataset.classes))
        gaussian(last, 0.01)
        he(features)
        classifier = nn.Sequential(
            *(hidden[0], nn.ReLU(), nn.Dropout(0.5)),
            *(hidden[1], nn.ReLU(), nn.Dropout(0.5)),
            last,
        )
        return nn.Sequential(features, nn.Flatten(), classifier)


def _assembled(
    features: nn.Sequential, pooled: tuple[int, int], classifier: nn.Sequential
) -> nn.Sequential:
    """With torchvision's names of the parts."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            features=features,
            avgpool=nn.AdaptiveAvgPool2d(pooled),
            flatten=nn.Flatten(),
            classifier=classifier,
        )
    )
