"""Random numbers of a sample: on what they depend, and how they are spread."""

from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from arignote.data.draws import Draws, sample_bits

INDICES = np.arange(500, dtype=np.int64)


def step(state):
    """SplitMix64 in Python's own integers."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def test_bits_follow_splitmix64():
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


def test_draws_are_the_same_in_every_process():
    """These numbers may never change: runs would."""
    draws = Draws(0xE220A8397B1DCDAF, "mirror")
    found = draws.uniform(0, 1), draws.below(1000), draws.shuffled(5), draws.below(2**32)
    assert found == (0.35477032261343067, 148, [1, 0, 2, 3, 4], 1282586074)


def test_a_purpose_has_numbers_of_its_own():
    first = {purpose: Draws(5, purpose).below(2**32) for purpose in ("a", "b", "ab", "")}
    assert len(set(first.values())) == 4
    assert Draws(5, "a").below(2**32) == first["a"]
    assert Draws(6, "a").below(2**32) != first["a"]


def test_draws_are_spread_evenly():
    bits = sample_bits(np.arange(3000), seed=0, epoch=0).tolist()
    uniform = np.array(
        [[d.uniform(-2, 3), d.uniform(-2, 3)] for d in (Draws(b, "u") for b in bits)]
    )
    assert ((uniform >= -2) & (uniform < 3)).all()
    np.testing.assert_allclose(uniform.mean(axis=0), 0.5, atol=0.15)
    np.testing.assert_allclose(uniform.std(axis=0), 5 / math.sqrt(12), atol=0.1)
    assert abs(np.corrcoef(uniform.T)[0, 1]) < 0.05
    assert Draws(bits[0], "u").uniform(0.7, 0.7) == 0.7
    counts = Counter(Draws(b, "b").below(7) for b in bits)
    assert sorted(counts) == list(range(7))
    assert min(counts.values()) > 3000 / 7 * 0.8
    orders = Counter(tuple(Draws(b, "o").shuffled(3)) for b in bits)
    assert set(orders) == set(permutations(range(3)))
    assert min(orders.values()) > 3000 / 6 * 0.8


@pytest.mark.parametrize("count", [0, 1])
def test_there_is_one_order_of_few(count):
    assert Draws(1, "x").shuffled(count) == list(range(count))
