"""What models of images ask of their data, and what layers leave of a picture's side."""

from __future__ import annotations

from math import prod

from arignote.data.base import Dataset
from arignote.errors import UserError


def image_shape(dataset: Dataset, model: str, *, least: int = 1) -> tuple[int, int, int]:
    """(channels, height, width) of the samples, for the model of the name `model`.

    Raises:
        UserError: they are no images, or a side is shorter than `least` pixels.
    """
    shape = dataset.sample_shape
    if len(shape) != 3:
        raise UserError(
            f"{model} trains on images, of channels x height x width, but a sample's shape is "
            f"{shape}: choose other data, or another of `arignote list models`"
        )
    channels, height, width = shape
    if min(height, width) < least:
        raise UserError(
            f"{model} needs images of at least {least} x {least} pixels, got {height} x {width}: "
            "use larger ones, or a model for small ones, such as digits-cnn or resnet18"
        )
    return channels, height, width


def sample_elements(dataset: Dataset, model: str) -> int:
    """Numbers in a sample of any shape, for the model of the name `model`.

    Raises:
        UserError: the samples are texts.
    """
    if dataset.vocabulary:
        raise UserError(
            f"{model} trains on numbers, but the samples are texts: choose other data, or another "
            "of `arignote list models`"
        )
    return prod(dataset.sample_shape)


def side_after(side: int, *windows: tuple[int, int, int]) -> int:
    """Pixels of a side after convolutions or pools of (kernel, stride, padding), in turn."""
    for kernel, stride, padding in windows:
        side = (side + 2 * padding - kernel) // stride + 1
    return side
