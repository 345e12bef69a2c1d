"""From text to the numbers of its words, by a vocabulary of the most frequent ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

PADDING, UNKNOWN = 0, 1
"""The words that stand for no word, and for all that are not in the vocabulary."""
NAMES = ("<padding>", "<unknown>")
"""What every vocabulary of words begins with."""
_WORD = re.compile(r"\w+(?:'\w+)*")


def split_words(text: str) -> list[str]:
    """The words of `text`, in lower case; an apostrophe inside a word belongs to it."""
    return _WORD.findall(text.lower())


def word_numbers(vocabulary: Sequence[str]) -> dict[str, int]:
    """Word -> its place in the vocabulary."""
    return {word: number for number, word in enumerate(vocabulary)}


def encode_words(text: str, numbers: Mapping[str, int], length: int) -> npt.NDArray[np.int32]:
    """Numbers (length,) of the first `length` words, filled up with `PADDING` behind them."""
    encoded = np.full(length, PADDING, np.int32)
    words = split_words(text)[:length]
    encoded[: len(words)] = [numbers.get(word, UNKNOWN) for word in words]
    return encoded
