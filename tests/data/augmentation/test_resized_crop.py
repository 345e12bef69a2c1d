"""Resized crop: which parts are drawn, and what is made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from arignote.config.augment_options import ResizedCropOptions
from arignote.data.augmentation.resized_crop import ResizedCrop
from arignote.data.draws import Draws, sample_bits

BITS = sample_bits(np.arange(1000), seed=3, epoch=1).tolist()


def parts(width, height, scale=0.08, bits=BITS):
    crop = ResizedCrop(ResizedCropOptions(scale=scale))
    return np.array([crop.part(width, height, own) for own in bits])


@pytest.mark.parametrize("scale", [0.08, 0.5])
@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (224, 224)])
def test_parts_lie_inside_and_have_the_areas_and_ratios_asked_for(width, height, scale):
    left, top, right, bottom = parts(width, height, scale).T
    assert (left >= 0).all() and (top >= 0).all()
    assert (right <= width).all() and (bottom <= height).all()
    wide, tall = right - left, bottom - top
    area, ratio = wide * tall / (width * height), wide / tall
    # Sides are rounded to whole pixels.
    assert area.min() > scale * 0.97 and area.max() <= 1
    assert ratio.min() > 0.75 * 0.97 and ratio.max() < 4 / 3 * 1.03
    # All of it is drawn: small and large, narrow and wide, at every border.
    assert area.min() < scale + 0.05 and area.max() > 0.9
    assert ratio.min() < 0.78 and ratio.max() > 1.28
    assert left.min() == top.min() == 0
    assert right.max() == width and bottom.max() == height


def test_areas_are_uniform_and_ratios_are_so_by_their_logarithm():
    # Of a large square nearly every first draw fits, if it is of less than 3/4.
    left, top, right, bottom = parts(2000, 2000).T
    area, ratio = (right - left) * (bottom - top) / 2000**2, (right - left) / (bottom - top)
    small = area < 0.7
    assert area[small].mean() == pytest.approx(0.39, abs=0.02)
    assert np.log(ratio[small]).mean() == pytest.approx(0, abs=0.02)
    assert np.log(ratio[small]).std() == pytest.approx(
        2 * math.log(4 / 3) / math.sqrt(12), abs=0.01
    )


def test_a_part_is_the_first_draw_that_fits():
    """Number by number, from the same draws."""
    for own, part in zip(BITS[:50], parts(300, 200).tolist(), strict=False):
        draws = Draws(own, "resized-crop")
        while True:
            area = draws.uniform(0.08, 1) * 300 * 200
            ratio = math.exp(draws.uniform(math.log(0.75), math.log(4 / 3)))
            wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if wide <= 300 and tall <= 200:
                break
        left, top = draws.below(301 - wide), draws.below(201 - tall)
        assert part == [left, top, left + wide, top + tall]


@pytest.mark.parametrize(
    ("size", "middle"),
    [
        ((1000, 30), [480, 0, 520, 30]),
        ((30, 1000), [0, 480, 30, 520]),
        ((1, 1), [0, 0, 1, 1]),
    ],
)
def test_where_nothing_fits_it_is_the_middle(size, middle):
    assert parts(*size, scale=1, bits=BITS[:20]).tolist() == [middle] * 20


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_pillow(channels):
    images = np.random.default_rng(0).integers(0, 256, (9, 40, 52, channels), dtype=np.uint8)
    crop = ResizedCrop(ResizedCropOptions())
    result = crop.apply(images, np.array(BITS[:9], np.uint64))
    for image, own, found in zip(images, BITS, result, strict=False):
        picture = Image.fromarray(image if channels == 3 else image[..., 0])
        box = crop.part(52, 40, own)
        expected = np.asarray(picture.resize((52, 40), Image.Resampling.BILINEAR, box=box))
        np.testing.assert_array_equal(found, expected.reshape(40, 52, channels))
        other = np.asarray(picture.resize((8, 7), Image.Resampling.BILINEAR, box=box))
        np.testing.assert_array_equal(crop.cut(image, own, (7, 8)), other.reshape(7, 8, channels))
