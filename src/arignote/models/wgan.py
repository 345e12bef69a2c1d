"""Wasserstein GAN of images.

    L_D = E D(G(z)) - E D(x),  the critic's weights clipped to [-c, c]
    L_G = - E D(G(z))

    c  0.01    RMSprop, rate 5e-5    batch 64    5 steps of the critic for one of the generator

Arjovsky, Chintala, Bottou, arXiv 1701.07875, Algorithm 1: -L_D estimates the distance, up to a
factor that c decides. As Theano-MPI's WGAN, we clip matrices and filters, not what normalises, and
the critic's last layer has no bias. We leave out the authors' 100 steps of the critic for each of
the first 25 of the generator; the generator's step takes the noise of the critic's last.
"""

from __future__ import annotations

import torch
from torch import nn

from arignote.models.gan_images import ImageGAN


class Wasserstein:
    """The losses above."""

    def critic_loss(self, of_real: torch.Tensor, of_fake: torch.Tensor) -> torch.Tensor:
        """L_D; it becomes negative as the critic learns."""
        return of_fake.mean() - of_real.mean()

    def generator_loss(self, of_fake: torch.Tensor) -> torch.Tensor:
        """L_G."""
        return -of_fake.mean()

    def critic_error(self, of_real: torch.Tensor, of_fake: torch.Tensor) -> torch.Tensor:
        """The share of all pairs of a real and a fake that the critic puts in the wrong order."""
        return (of_real <= of_fake.flatten()).float().mean()


class WGAN(ImageGAN):
    """`ImageGAN` with the losses above; 13,378,369 parameters for images of 1 x 28 x 28."""

    defaults = {
        "run.data": "synthetic:1x28x28,10",
        "run.rule": "bsp:scheme=weights",
        "train.epochs": 100,
        "train.batch_size": 64,
        "checkpoint.every_epochs": 10,
        "checkpoint.keep_best": False,
    }
    learning_rate = 5e-5
    critic_steps = 5
    clip = 0.01
    critic_bias = False
    objective = Wasserstein()

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """RMSprop, without momentum: the paper finds that one unstable here."""
        return torch.optim.RMSprop(network.parameters(), lr=self.learning_rate)
