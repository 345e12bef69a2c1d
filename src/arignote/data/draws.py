"""Random numbers of a sample, its own whatever its batch is.

They come from one 64-bit number, a hash of (seed, epoch, index) and of nothing else. So a
sample looks the same whichever worker loads it, in whichever batch, after any resume; and no
generator state needs to be saved.

The hash is SplitMix64's (Steele et al. 2014): its state advances by an odd constant (the golden
ratio's bits), and a finaliser of shifts and multiplications makes every bit of the state reach
every bit of the result. We mix the seed in, then the epoch, then the index, with a finaliser
after each, so that (seed, epoch) and (seed + 1, epoch - 1) have nothing in common.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from arignote.data.sharding import Indices

Bits: TypeAlias = npt.NDArray[np.uint64]
"""64 random bits for each sample, shape (N,): see `sample_bits`."""

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_ALL_BITS = 2**64 - 1


def sample_bits(indices: Indices, *, seed: int, epoch: int) -> Bits:
    """64 random bits for each of `indices` (N,), a pure function of (seed, epoch, index)."""
    golden = np.uint64(_GOLDEN)
    # Arrays of one element, because NumPy warns when scalars wrap around and not for arrays.
    state = _finalise(np.array([seed], np.uint64) + golden)
    state = _finalise((state ^ np.array([epoch], np.uint64)) + golden)
    return _finalise((state ^ indices.astype(np.uint64)) + golden)


def _finalise(state: Bits) -> Bits:
    """SplitMix64's finaliser; uint64 arithmetic wraps around as it needs."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
    return state ^ (state >> np.uint64(31))


class Draws:
    """As many random numbers as one purpose needs: SplitMix64, begun from a sample's bits.

    Each purpose has a sequence of its own, so that what is drawn for one does not depend on
    whether there are others.
    """

    def __init__(self, bits: int, purpose: str) -> None:
        """`bits`: of `sample_bits`."""
        self._state = _finalise_one(bits ^ _key(purpose))

    def uniform(self, low: float, high: float) -> float:
        """Uniform from `low` to `high`, of 53 random bits."""
        return low + (high - low) * (self._next() >> 11) * 2**-53

    def below(self, bound: int) -> int:
        """Uniform in range(bound); `bound` is at most 2 ** 32."""
        # 64 bits for 32, so none of the numbers is more likely by more than 2 ** -32.
        return (self._next() * bound) >> 64

    def shuffled(self, count: int) -> list[int]:
        """range(count) in random order (Fisher-Yates)."""
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def _next(self) -> int:
        self._state = (self._state + _GOLDEN) & _ALL_BITS
        return _finalise_one(self._state)


@cache
def _key(purpose: str) -> int:
    """A number that no other purpose has, the same in every process."""
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8], "little")


def _finalise_one(state: int) -> int:
    """As `_finalise`: of one number, Python is faster than NumPy."""
    state = (state ^ (state >> 30)) * _FIRST & _ALL_BITS
    state = (state ^ (state >> 27)) * _SECOND & _ALL_BITS
    return state ^ (state >> 31)
