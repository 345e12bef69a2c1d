"""GANs of images at the data's own size: DCGAN's networks, batches, and what travels.

The layers of Theano-MPI's GANs for MNIST (which are Lasagne's example): Radford et al., arXiv
1511.06434. We differ: any size and number of channels; in the critic each sample is normalised by
itself, so that it judges a sample alike in any batch, and leaves no statistics to exchange.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from arignote.config.spec import parse_spec
from arignote.data.images import ImageDataset
from arignote.data.open import open_data
from arignote.data.sharding import Indices
from arignote.errors import UserError
from arignote.models.gan import GAN, Shares

_DEVIATION = 0.02
"""Of the initial weights."""
_UNSEEN = 1000
"""Images to validate with, at most."""


class ImageShares(Shares):
    """A data set of images (C, H, W), each loaded when it is used."""

    def __init__(self, dataset: ImageDataset, config: dict[str, Any]) -> None:
        rank, size = int(config["rank"]), int(config["size"])
        seed, batch_size = int(config["seed"]), int(config["batch_size"])
        super().__init__(dataset.train_size, rank=rank, size=size, seed=seed, batch_size=batch_size)
        self._dataset = dataset

    def real(self, indices: Indices) -> torch.Tensor:
        """(N, C, H, W)."""
        batch = self._dataset.train_batch(indices, seed=self.seed, epoch=0)
        return self._dataset.brightness(batch.inputs) * 2 - 1

    def unseen(self) -> torch.Tensor:
        """Evenly spaced images of the validation set."""
        total = self._dataset.validation_size
        used = min(total, _UNSEEN)
        batch = self._dataset.validation_batch(np.arange(used, dtype=np.int64) * total // used)
        return self._dataset.brightness(batch.inputs) * 2 - 1


class ImageGAN(GAN):
    """A generator and a critic of images (C, H, W), of the sizes that the data has.

    Under the rule swap `params` are the critic's: critics travel, each generator stays. Under all
    others both networks are exchanged, with the generator's batch-norm statistics.

    Of `--set`, only `run.data`, `run.rule`, `run.seed`, `train.batch_size` and `train.epochs` reach
    it; a subclass may change the constants.

    Raises:
        UserError: the data does not hold images, or fewer than there are workers.
    """

    noise_size = 100
    width = 64
    """Channels of the generator's last hidden layer and of the critic's first."""
    dense = 1024
    """Units of the dense layers."""
    critic_bias = True
    """Whether the critic's last layer has one."""

    def __init__(self, config: dict[str, Any]) -> None:
        dataset = open_data(config["data"], augment="none")
        if not isinstance(dataset, ImageDataset):
            raise UserError(
                f"{type(self).__name__} draws images, and {config['data']} holds none: use --data "
                "idx:DIR, for example"
            )
        self._shape = dataset.sample_shape
        super().__init__(config, ImageShares(dataset, config))
        if parse_spec(config["rule"]).name != "swap":
            others = (*self.generator.parameters(), *self.generator.buffers())
            self.params += [tensor.detach() for tensor in others if tensor.is_floating_point()]

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Two dense and two (transposed) convolutions each, 5x5 with a stride of 2."""
        channels, *sides = self._shape
        # A convolution with a stride of 2 halves a side and rounds up.
        half = [-(-side // 2) for side in sides]
        quarter = [-(-side // 2) for side in half]
        width, dense = self.width, self.dense
        pixels = 2 * width * quarter[0] * quarter[1]
        generator = nn.Sequential(
            nn.Linear(self.noise_size, dense, bias=False),
            nn.BatchNorm1d(dense),
            nn.ReLU(),
            nn.Linear(dense, pixels, bias=False),
            nn.BatchNorm1d(pixels),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, *quarter)),
            _enlarging(2 * width, width, half, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            _enlarging(width, channels, sides, bias=True),
            nn.Tanh(),
        )
        critic = nn.Sequential(
            nn.Conv2d(channels, width, 5, stride=2, padding=2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 5, stride=2, padding=2, bias=False),
            nn.GroupNorm(1, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(pixels, dense, bias=False),
            nn.LayerNorm(dense),
            nn.LeakyReLU(0.2),
            nn.Linear(dense, 1, bias=self.critic_bias),
        )
        return generator, critic

    def initialise(self, network: nn.Module, random: torch.Generator) -> None:
        """DCGAN's: N(0, 0.02^2); biases 0."""
        for module in network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.normal_(module.weight, std=_DEVIATION, generator=random)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _enlarging(inputs: int, outputs: int, sides: list[int], *, bias: bool) -> nn.ConvTranspose2d:
    """The transpose of a 5x5 convolution with a stride of 2 over images of `sides`."""
    rest = (1 - sides[0] % 2, 1 - sides[1] % 2)
    return nn.ConvTranspose2d(
        inputs, outputs, 5, stride=2, padding=2, output_padding=rest, bias=bias
    )
