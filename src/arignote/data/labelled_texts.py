"""What all sets of labelled texts share: a vocabulary of words, and texts as their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from arignote.data.arrays import ArrayDataset, Arrays
from arignote.data.base import Split
from arignote.data.labels import Labels
from arignote.data.sharding import Indices
from arignote.data.words import NAMES, encode_words, split_words, word_numbers


class TextOptions(BaseModel):
    """How many words are known, and how many of a text are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: Annotated[int, Field(ge=3, le=10**7)] = 10_000
    length: Annotated[int, Field(ge=1, le=10**6)] = 200


class TextSplit(NamedTuple):
    """The N texts of a split."""

    texts: Callable[[], Iterable[str]]
    """They are read anew whenever it is called, since the words of all need much memory."""
    labels: Labels
    """(N,)."""


class LabelledTexts(ArrayDataset):
    """Base of the text sets: samples (length,) of word numbers.

    A text is its first `length` words in lower case, filled up with padding behind them. The
    vocabulary is those two names and the most frequent words of the training texts, `vocabulary`
    altogether; of equally frequent ones the first in the alphabet.
    """

    sample_name = "texts"
    input_type = np.int64

    def __init__(
        self,
        train: TextSplit,
        validation: TextSplit,
        *,
        classes: tuple[str, ...],
        options: TextOptions,
    ) -> None:
        """Read all texts.

        Raises:
            DataError: one cannot be read.
        """
        self.classes = classes
        self.sample_shape = (options.length,)
        counts: Counter[str] = Counter()
        for text in train.texts():
            counts.update(split_words(text))
        frequent = sorted(counts, key=lambda word: (-counts[word], word))
        self.vocabulary = (*NAMES, *frequent[: options.vocabulary - len(NAMES)])
        numbers = word_numbers(self.vocabulary)
        splits: dict[Split, TextSplit] = {"train": train, "validation": validation}
        self._texts = {name: _encode(split, numbers, options) for name, split in splits.items()}
        self._labels = {name: split.labels for name, split in splits.items()}
        self.train_size, self.validation_size = map(len, self._texts.values())

    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write texts `indices` (N,): inputs (N, length), targets (N,)."""
        out.inputs[:] = self._texts[split][indices]
        out.targets[:] = self._labels[split][indices]


def _encode(
    split: TextSplit, numbers: dict[str, int], options: TextOptions
) -> npt.NDArray[np.int32]:
    """Word numbers, (N, length)."""
    texts = np.empty((len(split.labels), options.length), np.int32)
    for place, text in enumerate(split.texts()):
        texts[place] = encode_words(text, numbers, options.length)
    return texts
