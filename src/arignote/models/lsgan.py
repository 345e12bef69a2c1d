"""Least-squares GANs: for 8x8 digits, seconds to train, and for images of any size.

    L_D = 1/2 E (D(x) - 1)^2 + 1/2 E D(G(z))^2
    L_G = 1/2 E (D(G(z)) - 1)^2

Mao et al., arXiv 1611.04076 (a = 0, b = c = 1). Under `--rule swap` only critics travel, between
the workers' generators, as in Theano-MPI's LS-GAN, whose `params` are the critic's alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn

from arignote.data.digits import Digits
from arignote.data.sharding import Indices
from arignote.models.gan import GAN, Shares
from arignote.models.gan_images import ImageGAN

SIDE = 8
"""Pixels of a digit's side."""


class LeastSquares:
    """The losses above: real samples are to be judged 1, generated ones 0."""

    def critic_loss(self, of_real: torch.Tensor, of_fake: torch.Tensor) -> torch.Tensor:
        """L_D."""
        return _distance(of_real, 1) + _distance(of_fake, 0)

    def generator_loss(self, of_fake: torch.Tensor) -> torch.Tensor:
        """L_G."""
        return _distance(of_fake, 1)

    def critic_error(self, of_real: torch.Tensor, of_fake: torch.Tensor) -> torch.Tensor:
        """The mean of both kinds' shares that are judged on the wrong side of 1/2."""
        return ((of_real < 0.5).float().mean() + (of_fake >= 0.5).float().mean()) / 2


def _distance(judged: torch.Tensor, wanted: float) -> torch.Tensor:
    """1/2 E (judged - wanted)^2."""
    return 0.5 * (judged - wanted).square().mean()


class DigitShares(Shares):
    """The digits as rows of 64 pixels in -1 (paper) ... 1 (ink)."""

    def __init__(self, *, rank: int, size: int, seed: int, batch_size: int) -> None:
        """Load them; a UserError where there are fewer than workers, or no scikit-learn."""
        digits = Digits(augment="none")
        super().__init__(digits.train_size, rank=rank, size=size, seed=seed, batch_size=batch_size)
        train = digits.train_batch(np.arange(digits.train_size), seed=seed, epoch=0).inputs
        held_out = digits.validation_batch(np.arange(digits.validation_size)).inputs
        least, most = train.min(), train.max()
        self.train, self.held_out = (
            ((inputs - least) / (most - least) * 2 - 1).flatten(1) for inputs in (train, held_out)
        )

    def real(self, indices: Indices) -> torch.Tensor:
        """(N, 64)."""
        return self.train[indices]

    def unseen(self) -> torch.Tensor:
        """All 360 of them."""
        return self.held_out


class LSGANDigits(GAN):
    """Two small networks of dense layers for 8x8 digits; only the critic's 24,961 weights travel.

    Of `--set`, only `train.batch_size`, `train.epochs` and `run.seed` reach it; a subclass may
    change the constants below.
    """

    defaults = {
        "run.data": "digits",
        "run.rule": "swap:period=200",
        "train.epochs": 500,
        "train.batch_size": 64,
        "train.validate_every_epochs": 50,
        "checkpoint.every_epochs": 100,
        "checkpoint.keep_best": False,
    }
    noise_size = 32
    width = 128
    learning_rate = 1e-3
    betas = (0.5, 0.99)
    objective = LeastSquares()
    data: DigitShares

    def __init__(self, config: dict[str, Any]) -> None:
        rank, size = int(config["rank"]), int(config["size"])
        seed, batch_size = int(config["seed"]), int(config["batch_size"])
        super().__init__(
            config, DigitShares(rank=rank, size=size, seed=seed, batch_size=batch_size)
        )

    def networks(self) -> tuple[nn.Module, nn.Module]:
        """Three dense layers each."""
        return _generator(self.noise_size, self.width), _critic(self.width)

    def initialise(self, network: nn.Module, random: torch.Generator) -> None:
        """torch's, without biases."""
        for module in network.modules():
            if isinstance(module, nn.Linear):
                nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=random)
                nn.init.zeros_(module.bias)

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=self.betas)

    def picture(self, samples: torch.Tensor) -> torch.Tensor:
        """Ink black on white."""
        return -samples.reshape(-1, 1, SIDE, SIDE)


def _generator(noise_size: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (noise_size, width):
        layers += [nn.Linear(inputs, width), nn.BatchNorm1d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, SIDE * SIDE), nn.Tanh())


def _critic(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs in (SIDE * SIDE, width):
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, 1))


class LSGAN(ImageGAN):
    """`ImageGAN` with the losses above, by Adam: 13,378,370 parameters for images of 1 x 28 x 28.

    Adam's settings are the paper's for handwritten characters.
    """

    defaults = {
        "run.data": "synthetic:1x28x28,10",
        "run.rule": "swap:period=200",
        "train.epochs": 100,
        "train.batch_size": 64,
        "checkpoint.every_epochs": 10,
        "checkpoint.keep_best": False,
    }
    learning_rate = 2e-4
    betas = (0.5, 0.999)
    objective = LeastSquares()

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=self.betas)
