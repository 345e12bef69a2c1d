"""Crop and mirror: what they may produce, and that their bits stay."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from arignote.data.augmentation.chain import apply_steps, open_steps
from arignote.data.draws import sample_bits

INDICES = np.arange(500, dtype=np.int64)


def images(count, height=16, width=24):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def augment(original, indices, augment, *, seed=0, epoch=0):
    bits = sample_bits(indices, seed=seed, epoch=epoch)
    return apply_steps(open_steps(augment, 3), original, bits)


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("mirror", "39b2a7f4ca305b71d465986217223bb4f0f29fffb8326530f05c0b2139d89fec"),
        ("crop", "6cc37d08b142215444c163db03f2dae9db24377cb89d126a801aa1892615ee69"),
        ("crop+mirror", "9cb537c45bc91214a964eed26719e067d2cbb698632c6330ff62ce9c1f3baa79"),
    ],
)
def test_the_bits_stay(text, digest):
    """Found before there were other steps: what was trained then can be trained again."""
    result = augment(images(64), np.arange(1000, 1064), text, seed=5, epoch=3)
    assert hashlib.sha256(result.tobytes()).hexdigest() == digest


def test_mirror_mirrors_about_half():
    original = images(len(INDICES))
    result = augment(original, INDICES, "mirror")
    same = (result == original).all(axis=(1, 2, 3))
    mirrored = (result == original[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_crop_is_a_window_of_the_reflected_image_and_takes_all_places():
    original = images(len(INDICES), height=16, width=24)
    result = augment(original, INDICES, "crop")
    padded = np.pad(original, ((0, 0), (2, 2), (3, 3), (0, 0)), mode="reflect")
    matches = np.stack(
        [
            (result == padded[:, y : y + 16, x : x + 24]).all(axis=(1, 2, 3))
            for y in range(5)
            for x in range(7)
        ]
    )
    assert (matches.sum(axis=0) == 1).all()
    assert matches.any(axis=1).all()


def test_images_smaller_than_eight_pixels_are_not_moved():
    original = images(8, height=7, width=7)
    np.testing.assert_array_equal(augment(original, INDICES[:8], "crop"), original)
