"""The steps of `train.augment`, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from arignote.config.augment_options import parse_augment
from arignote.data.augmentation.base import Augmentation
from arignote.data.draws import Bits
from arignote.data.pixels import Images
from arignote.errors import UserError
from arignote.registry import AUGMENTATIONS

_CHANNELS = (1, 3)
"""Of which Pillow has pictures."""


def open_steps(augment: str, channels: int) -> tuple[Augmentation, ...]:
    """What `train.augment` says, for images of so many channels.

    Raises:
        UserError: it is no augmentation that we know, or not for images of so many channels.
    """
    opened = []
    for name, options in parse_augment(augment):
        kind: type[Augmentation] = AUGMENTATIONS.load(name)
        if channels not in _CHANNELS and not kind.any_channels:
            raise UserError(
                f"augmentation {name} is for images of 1 or 3 channels, these have {channels}: "
                "leave it out"
            )
        opened.append(kind(options))
    return tuple(opened)


def apply_steps(steps: Sequence[Augmentation], images: Images, bits: Bits) -> Images:
    """What becomes of `images` (N, H, W, C), whose samples have `bits` (N,): the same shape."""
    if len(images):
        for step in steps:
            images = step.apply(images, bits)
    return images


def refuse_augmentation(augment: str, name: str) -> None:
    """Check that `augment` is none, for data sets called `name` that hold no images.

    Raises:
        UserError: it is not.
    """
    if parse_augment(augment):
        raise UserError(
            f"data set {name} holds no images to augment: use train.augment=none, got {augment!r}"
        )
