"""RandAugment: each operation against one written here, and how they are drawn."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from arignote.config.augment_options import RandAugmentOptions
from arignote.data.augmentation import rand_augment
from arignote.data.augmentation.rand_augment import OPERATIONS, RandAugment
from arignote.data.draws import Draws, sample_bits

WIDTH, HEIGHT = 33, 20
BITS = sample_bits(np.arange(400), seed=1, epoch=2).tolist()
SIGNED = ("shear", "translate", "rotate", "brightness", "color", "contrast", "sharpness")


def picture(mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def affine(image, shear=(0.0, 0.0), translate=(0, 0)):
    """As torchvision's `functional.affine` of a picture, without rotation and scale.

    It gives the shear in degrees, and the corner as its centre.
    """
    sx, sy = (math.radians(math.degrees(math.atan(part))) for part in shear)
    a = math.cos(-sy) / math.cos(sy)
    b = -math.cos(-sy) * math.tan(sx) / math.cos(sy)
    c = math.sin(-sy) / math.cos(sy)
    d = -math.sin(-sy) * math.tan(sx) / math.cos(sy) + 1
    tx, ty = translate
    matrix = (d, -b, d * -tx - b * -ty, -c, a, -c * -tx + a * -ty)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST)


def enhanced(kind, image, factor):
    return getattr(ImageEnhance, kind)(image).enhance(factor)


def posterized(image, bits):
    return image.point([value & (256 - 2 ** (8 - bits)) for value in range(256)] * len(image.mode))


def solarized(image, threshold):
    table = [value if value < threshold else 255 - value for value in range(256)]
    return image.point(table * len(image.mode))


# Of a picture, the bin m and the direction s.
REFERENCES = {
    "identity": lambda p, m, s: p,
    "shear-x": lambda p, m, s: affine(p, shear=(s * 0.01 * m, 0)),
    "shear-y": lambda p, m, s: affine(p, shear=(0, s * 0.01 * m)),
    "translate-x": lambda p, m, s: affine(p, translate=(int(s * m * 5 / 331 * WIDTH), 0)),
    "translate-y": lambda p, m, s: affine(p, translate=(0, int(s * m * 5 / 331 * HEIGHT))),
    "rotate": lambda p, m, s: p.rotate(s * m, Image.Resampling.NEAREST),
    "brightness": lambda p, m, s: enhanced("Brightness", p, 1 + s * 0.03 * m),
    "color": lambda p, m, s: enhanced("Color", p, 1 + s * 0.03 * m),
    "contrast": lambda p, m, s: enhanced("Contrast", p, 1 + s * 0.03 * m),
    "sharpness": lambda p, m, s: enhanced("Sharpness", p, 1 + s * 0.03 * m),
    "posterize": lambda p, m, s: posterized(p, 8 - round(m / 7.5)),
    "solarize": lambda p, m, s: solarized(p, 255 - 8.5 * m),
    "autocontrast": lambda p, m, s: ImageOps.autocontrast(p),
    "equalize": lambda p, m, s: ImageOps.equalize(p),
}


def change(image, name, m, direction):
    operation = OPERATIONS[name]
    return operation.change(image, direction * operation.largest * m / 30)


def test_there_are_14():
    assert list(OPERATIONS) == list(REFERENCES)
    assert len(OPERATIONS) == 14
    for name, operation in OPERATIONS.items():
        assert operation.signed == name.startswith(SIGNED)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", REFERENCES)
def test_every_operation_at_every_strength(name, mode):
    image = picture(mode)
    for m in range(31):
        for direction in (1, -1)[: 1 + OPERATIONS[name].signed]:
            found = np.asarray(change(image, name, m, direction))
            expected = np.asarray(REFERENCES[name](image, m, direction))
            # A factor may differ in its last bit.
            np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
            assert (found != expected).mean() < 0.01, (m, direction)


@pytest.mark.parametrize("name", [n for n in OPERATIONS if n not in ("autocontrast", "equalize")])
def test_strength_0_changes_nothing(name):
    # But for values of 255 in solarize.
    image = picture().point([min(value, 254) for value in range(256)] * 3)
    for direction in (1, -1):
        np.testing.assert_array_equal(np.asarray(change(image, name, 0, direction)), image)


def test_what_comes_in_from_outside_is_black():
    white = Image.new("RGB", (WIDTH, HEIGHT), (255, 255, 255))
    for name in ("shear-x", "shear-y", "translate-x", "translate-y", "rotate"):
        values = set(np.unique(np.asarray(change(white, name, 20, 1))).tolist())
        assert values == {0, 255}, name


def test_operations_strengths_and_directions_are_drawn(monkeypatch):
    told = []

    def spy(name, operation):
        def change(picture, strength):
            told.append((name, strength))
            return picture

        return operation._replace(change=change)

    monkeypatch.setattr(
        rand_augment, "OPERATIONS", {name: spy(name, op) for name, op in OPERATIONS.items()}
    )
    step = RandAugment(RandAugmentOptions(n=3, m=12))
    for own in BITS:
        step.change(picture(), Draws(own, "randaugment"))
        draws, expected = Draws(own, "randaugment"), []
        for _ in range(3):
            name = list(OPERATIONS)[draws.below(14)]
            coin, operation = draws.below(2), OPERATIONS[name]
            sign = -1 if coin and operation.signed else 1
            expected.append((name, sign * operation.largest * 12 / 30))
        assert told == expected
        told.clear()


def test_every_operation_comes_about_as_often_and_either_way():
    step = RandAugment(RandAugmentOptions(n=1, m=9))
    counts = Counter()
    for own in BITS:
        draws = Draws(own, step.name)
        counts[draws.below(14), draws.below(2)] += 1
    assert len(counts) == 28
    assert max(counts.values()) < 4 * 400 / 28
