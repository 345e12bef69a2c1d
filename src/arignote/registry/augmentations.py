"""The steps of `train.augment`."""

from __future__ import annotations

from arignote.registry.base import Entry, Registry

AUGMENTATIONS = Registry(
    "augmentation",
    Entry(
        "crop",
        "arignote.data.augmentation.crop:Crop",
        "the image's own size, cut at a random place out of the image with reflected borders",
    ),
    Entry(
        "mirror",
        "arignote.data.augmentation.mirror:Mirror",
        "left and right change places in every second image",
    ),
    Entry(
        "resized-crop",
        "arignote.data.augmentation.resized_crop:ResizedCrop",
        "resized-crop[:scale=0.08]: a part of random area and aspect ratio, resized",
        paper="Szegedy 2014",
    ),
    Entry(
        "color-jitter",
        "arignote.data.augmentation.color_jitter:ColorJitter",
        "color-jitter[:brightness=,contrast=,saturation=0.4,hue=0]: in random order",
        paper="Howard 2013",
    ),
    Entry(
        "randaugment",
        "arignote.data.augmentation.rand_augment:RandAugment",
        "randaugment[:n=2,m=9]: n of 14 operations at strength m",
        paper="1909.13719",
    ),
)
