"""What several models of the zoo are made of: a normalisation, and initial weights.

All random numbers come from torch's global generator, which the trainer seeds.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

PIXEL_DEVIATION = 58.0
"""Of ImageNet's pixels, 0 to 255."""


class PixelUnits(nn.Module):
    """Images that were divided by their deviation in units of pixels again: AlexNet's."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> the same, times ImageNet's deviation."""
        return images * PIXEL_DEVIATION


def local_response_norm() -> nn.LocalResponseNorm:
    """b_i = a_i / (2 + 1e-4 sum_j a_j^2) ** 0.75, j over the 5 channels around i.

    Krizhevsky et al. 2012, section 3.3. torch divides the sum by the number of channels.
    """
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def gaussian(layer: nn.Conv2d | nn.Linear, deviation: float, bias: float = 0.0) -> None:
    """Initialise weights from N(0, deviation^2), biases to a constant."""
    nn.init.normal_(layer.weight, std=deviation)
    if layer.bias is not None:
        nn.init.constant_(layer.bias, bias)


def he(layers: Iterable[nn.Module]) -> None:
    """Initialise every convolution among `layers` from N(0, 2 / fan-out), biases to 0.

    He et al., arXiv 1502.01852, with the number of outputs, which keeps gradients in scale.
    """
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
