"""What every step of `train.augment` must do."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from arignote.config.augment_options import OPTIONS, WINDOWS
from arignote.data.augmentation.base import Augmentation
from arignote.data.augmentation.chain import apply_steps, open_steps, refuse_augmentation
from arignote.data.draws import sample_bits
from arignote.errors import UserError
from arignote.registry import AUGMENTATIONS

NAMES = [entry.name for entry in AUGMENTATIONS]
VARIANTS = [*NAMES, "color-jitter:hue=0.2", "randaugment:n=4,m=25", "resized-crop:scale=0.5"]
COUNT = 40
INDICES = np.arange(100, 100 + COUNT, dtype=np.int64)


def noise(count=COUNT, height=16, width=24, channels=3):
    shape = (count, height, width, channels)
    return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)


def bits_of(indices=INDICES, seed=4, epoch=2):
    return sample_bits(indices, seed=seed, epoch=epoch)


@pytest.fixture(params=VARIANTS)
def member(request):
    (step,) = open_steps(request.param, 3)
    return step


def test_every_member_is_known_by_its_name():
    assert set(NAMES) == set(OPTIONS)
    assert set(WINDOWS) <= set(NAMES)
    for name in NAMES:
        (step,) = open_steps(name, 3)
        assert isinstance(step, Augmentation)
        assert step.name == name
        assert (
            OPTIONS[name].__name__ in inspect.signature(type(step)).parameters["options"].annotation
        )


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_stay_and_the_images_too(member, channels):
    images = noise(channels=channels)
    before = images.copy()
    result = member.apply(images, bits_of())
    assert (result.shape, result.dtype) == (images.shape, np.uint8)
    np.testing.assert_array_equal(images, before)
    images.setflags(write=False)
    np.testing.assert_array_equal(member.apply(images, bits_of()), result)


def test_a_sample_does_not_depend_on_its_batch(member):
    images = noise()
    together = member.apply(images, bits_of())
    backwards = member.apply(images[::-1], bits_of(INDICES[::-1]))
    np.testing.assert_array_equal(backwards[::-1], together)
    for place in range(0, len(INDICES), 7):
        one = slice(place, place + 1)
        np.testing.assert_array_equal(
            member.apply(images[one], bits_of(INDICES[one])), together[one]
        )


def test_seed_epoch_and_index_decide(member):
    images = np.repeat(noise(1), len(INDICES), axis=0)
    base = member.apply(images, bits_of())
    assert (base != base[:1]).any()
    assert (base != member.apply(images, bits_of(seed=5))).any()
    assert (base != member.apply(images, bits_of(epoch=3))).any()


def test_images_of_one_pixel(member):
    images = noise(height=1, width=1)
    assert member.apply(images, bits_of()).shape == images.shape


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_channels(name):
    if AUGMENTATIONS.load(name).any_channels:
        images = noise(channels=5)
        assert apply_steps(open_steps(name, 5), images, bits_of()).shape == images.shape
        return
    with pytest.raises(
        UserError, match=f"augmentation {name} is for images of 1 or 3 channels, these have 5: lea"
    ):
        open_steps(name, 5)


# Together


def test_none_changes_nothing():
    images = noise()
    assert open_steps("none", 3) == ()
    assert apply_steps((), images, bits_of()) is images


def test_steps_follow_each_other_in_the_order_written():
    images, bits = noise(), bits_of()
    for text in (
        "resized-crop+mirror+color-jitter",
        "crop+randaugment+mirror",
        "mirror+randaugment",
    ):
        expected = images
        for name in text.split("+"):
            (step,) = open_steps(name, 3)
            expected = step.apply(expected, bits)
        np.testing.assert_array_equal(apply_steps(open_steps(text, 3), images, bits), expected)


def test_no_images_at_all():
    steps = open_steps("crop+mirror+color-jitter", 3)
    assert apply_steps(steps, noise(0), bits_of(INDICES[:0])).shape == (0, 16, 24, 3)


def test_data_without_images_refuses_them():
    refuse_augmentation("none", "text")
    with pytest.raises(
        UserError,
        match=r"data set text holds no images to augment: .*=none, got .crop\+mirror.$",
    ):
        refuse_augmentation("crop+mirror", "text")
    with pytest.raises(UserError, match="unknown augmentation 'miror': did you mean 'mirror'"):
        refuse_augmentation("miror", "text")
