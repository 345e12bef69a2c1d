"""Colour jitter: against Pillow, with the factors that were drawn, in the order drawn."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from arignote.config.augment_options import ColorJitterOptions
from arignote.data.augmentation.color_jitter import ColorJitter
from arignote.data.draws import Draws, sample_bits

BITS = sample_bits(np.arange(30), seed=1, epoch=2)
KINDS = ("brightness", "contrast", "saturation", "hue")
OFF = dict.fromkeys(KINDS, 0.0)
ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def noise(channels=3):
    return np.random.default_rng(0).integers(0, 256, (len(BITS), 8, 12, channels), dtype=np.uint8)


def jitter(images, **options):
    return ColorJitter(ColorJitterOptions(**(OFF | options))).apply(images, BITS)


def drawn(bits):
    draws = Draws(int(bits), "color-jitter")
    return draws.shuffled(4), [draws.uniform(-1, 1) for _ in KINDS]


@pytest.mark.parametrize("kind", ENHANCERS)
def test_one_kind_alone(kind):
    images = noise()
    for image, bits, found in zip(images, BITS, jitter(images, **{kind: 0.3}), strict=True):
        factor = 1 + 0.3 * drawn(bits)[1][KINDS.index(kind)]
        assert 0.7 <= factor <= 1.3
        expected = ENHANCERS[kind](Image.fromarray(image)).enhance(factor)
        np.testing.assert_array_equal(found, np.asarray(expected))


def test_all_in_the_order_drawn():
    images = noise()
    strengths = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.9}
    orders = set()
    for image, bits, found in zip(images, BITS, jitter(images, **strengths), strict=True):
        order, numbers = drawn(bits)
        orders.add(tuple(order))
        picture = Image.fromarray(image)
        for place in order:
            if kind := KINDS[place] if KINDS[place] in strengths else "":
                factor = 1 + strengths[kind] * numbers[place]
                picture = ENHANCERS[kind](picture).enhance(factor)
        np.testing.assert_array_equal(found, np.asarray(picture))
    assert len(orders) > 10


def test_hue_turns_colours_and_leaves_grey_alone():
    images = np.empty((len(BITS), 1, 2, 3), np.uint8)
    images[:] = [[[200, 80, 40], [77, 77, 77]]]
    turns = []
    for bits, found in zip(BITS, jitter(images, hue=0.5), strict=True):
        assert found[0, 1].tolist() == [77, 77, 77]
        hue, saturation, value = colorsys.rgb_to_hsv(*(found[0, 0] / 255))
        assert saturation == pytest.approx(0.8, abs=0.02)
        assert value * 255 == pytest.approx(200, abs=1)
        start = colorsys.rgb_to_hsv(200, 80, 40)[0]
        turn = 0.5 * drawn(bits)[1][3]
        assert abs((hue - start - turn + 0.5) % 1 - 0.5) < 0.015
        turns.append(turn)
    assert min(turns) < -0.3 and max(turns) > 0.3


def test_strength_0_changes_nothing():
    np.testing.assert_array_equal(jitter(noise()), noise())


def test_grey_images_have_no_colours_to_change():
    images = noise(channels=1)
    np.testing.assert_array_equal(jitter(images, saturation=0.9, hue=0.5), images)
    with_colours = jitter(images, brightness=0.4, saturation=0.9, hue=0.5)
    np.testing.assert_array_equal(with_colours, jitter(images, brightness=0.4))
