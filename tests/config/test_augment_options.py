"""`train.augment`, as it is checked before any process starts."""

from __future__ import annotations

import pytest

from arignote.config.augment_options import (
    OPTIONS,
    ColorJitterOptions,
    RandAugmentOptions,
    ResizedCropOptions,
    StepOptions,
    parse_augment,
)
from arignote.config.settings import Train
from arignote.errors import UserError
from arignote.registry import AUGMENTATIONS


def test_every_step_has_options_with_defaults():
    assert set(OPTIONS) == {entry.name for entry in AUGMENTATIONS}
    for name, model in OPTIONS.items():
        assert parse_augment(name) == ((name, model()),)


def test_steps_stay_in_the_order_written():
    assert parse_augment("none") == ()
    assert parse_augment("crop+mirror") == (("crop", StepOptions()), ("mirror", StepOptions()))
    text = "resized-crop:scale=0.2+randaugment:m=5,n=1+color-jitter:hue=0.1,contrast=1+mirror"
    assert parse_augment(text) == (
        ("resized-crop", ResizedCropOptions(scale=0.2)),
        ("randaugment", RandAugmentOptions(n=1, m=5)),
        ("color-jitter", ColorJitterOptions(hue=0.1, contrast=1)),
        ("mirror", StepOptions()),
    )
    assert Train(augment=text).augment == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flip", r"unknown augmentation 'flip': known: color-jitter, crop, mirror, none, randaug"),
        ("crop+miror", r"unknown augmentation 'miror': did you mean 'mirror'\?"),
        ("crop-mirror", r"unknown augmentation 'crop-mirror': did you mean 'mirror'\? known: "),
        ("", r"got '', expected name\[:argument\]\[,key=value...\]"),
        ("crop+", r"got '', expected name"),
        ("none+mirror", r"augmentation none\+mirror: none stands alone: leave it out, or all ot"),
        ("none:x=1", r"augmentation none:x=1: none stands alone"),
        ("mirror+crop+mirror", r"augmentation mirror.crop.mirror: mirror comes twice: keep one"),
        ("crop+resized-crop", r": crop and resized-crop exclude each other: keep one"),
        ("mirror+crop", r"mirror.crop: crop says which part of the image is used: put it first"),
        ("mirror+resized-crop:scale=1", r": resized-crop says which part of the image is used: pu"),
        ("crop:4", r"augmentation crop:4: crop has no options: write it alone"),
        ("randaugment:2", r"augmentation randaugment: got '2', expected key=value; keys: n, m"),
        ("crop:size=3", r"augmentation crop:size=3: crop has no options: write it alone"),
        (
            "resized-crop:scal=1",
            r"augmentation resized-crop: unknown key 'scal': did you mean 'scale'\? known: scale",
        ),
        ("resized-crop:scale=0", r"resized-crop: scale: got '0', input should be greater than 0"),
        ("resized-crop:scale=2", r"scale: got '2', input should be less than or equal to 1"),
        ("resized-crop:scale=nan", r"resized-crop: scale: got 'nan', input should be "),
        ("color-jitter:brightness=1.5", r"brightness: got '1.5', .*less than or equal to 1"),
        ("color-jitter:contrast=-1", r"contrast: got '-1', .*greater than or equal to 0"),
        ("color-jitter:saturation=x", r"saturation: got 'x', input should be a valid number"),
        ("color-jitter:hue=0.6", r"hue: got '0.6', input should be less than or equal to 0.5"),
        ("color-jitter:hue=0.1,hue=0.2", r"gives 'hue' twice: keep one"),
        ("randaugment:n=0", r"augmentation randaugment: n: got '0', .*greater than or equal to 1"),
        ("randaugment:n=15", r"n: got '15', input should be less than or equal to 14"),
        ("randaugment:m=31", r"m: got '31', input should be less than or equal to 30"),
        ("randaugment:m=1.5", r"m: got '1.5', input should be a valid integer"),
    ],
)
def test_mistakes_are_told_in_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_augment(text)
    assert "\n" not in str(caught.value)
