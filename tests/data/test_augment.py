"""Crop and mirror: what they may produce, and on what their randomness depends."""

from __future__ import annotations

import numpy as np
import pytest

from arignote.data.augment import MODES, augment, check_mode, sample_bits
from arignote.errors import UserError

INDICES = np.arange(500, dtype=np.int64)


def images(count, height=16, width=24):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_bits_follow_splitmix64():
    """Against the reference algorithm in Python's own integers."""

    def step(state):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    # The published first output of SplitMix64 for the seed 0.
    assert step(0) == 0xE220A8397B1DCDAF
    expected = [step(step(step(2**63 - 1) ^ 7) ^ index) for index in (0, 1, 10**9)]
    got = sample_bits(np.array([0, 1, 10**9]), seed=2**63 - 1, epoch=7)
    assert got.tolist() == expected


def test_every_bit_is_set_about_half_the_time():
    bits = sample_bits(np.arange(10_000), seed=0, epoch=0)
    ones = [(bits >> np.uint64(place) & np.uint64(1)).mean() for place in range(64)]
    np.testing.assert_allclose(ones, 0.5, atol=0.03)


def test_bits_differ_between_seeds_and_epochs():
    numbers = {
        int(bits)
        for seed in range(5)
        for epoch in range(5)
        for bits in sample_bits(INDICES, seed=seed, epoch=epoch)
    }
    assert len(numbers) == 25 * len(INDICES)


def test_none_changes_nothing():
    original = images(8)
    assert augment(original, INDICES[:8], "none", seed=0, epoch=0) is original


def test_mirror_mirrors_about_half():
    original = images(len(INDICES))
    result = augment(original, INDICES, "mirror", seed=0, epoch=0)
    same = (result == original).all(axis=(1, 2, 3))
    mirrored = (result == original[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_crop_is_a_window_of_the_reflected_image_and_takes_all_places():
    original = images(len(INDICES), height=16, width=24)
    result = augment(original, INDICES, "crop", seed=0, epoch=0)
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
    np.testing.assert_array_equal(augment(original, INDICES[:8], "crop", seed=0, epoch=0), original)


@pytest.mark.parametrize("mode", MODES)
def test_a_sample_does_not_depend_on_its_batch(mode):
    original = images(16)
    indices = INDICES[100:116]
    together = augment(original, indices, mode, seed=4, epoch=2)
    for place in range(16):
        one = slice(place, place + 1)
        alone = augment(original[one], indices[one], mode, seed=4, epoch=2)
        np.testing.assert_array_equal(alone, together[one])


def test_an_unknown_mode_names_the_nearest():
    with pytest.raises(UserError, match=r"unknown augmentation 'miror': did you mean 'mirror'\?"):
        check_mode("miror")
