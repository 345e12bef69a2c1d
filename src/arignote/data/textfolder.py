"""Folders of text files, one folder a class, as sequences of word numbers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_folder
from arignote.data.arrays import ArrayDataset, Arrays
from arignote.data.augment import refuse_augmentation
from arignote.data.base import Split
from arignote.data.class_folders import Layout, labels, paths
from arignote.data.sharding import Indices
from arignote.data.text import read_utf8
from arignote.data.words import NAMES, encode_words, split_words, word_numbers

# aclImdb keeps reviews without a label in train/unsup.
_LAYOUT = Layout("texts", (".txt",), unlabelled=("unsup",))


class TextFolderOptions(BaseModel):
    """How many words are known, and how many of a text are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: Annotated[int, Field(ge=3, le=10**7)] = 10_000
    length: Annotated[int, Field(ge=1, le=10**6)] = 200


class TextFolder(ArrayDataset):
    """`textfolder:DIR`: samples (length,) of word numbers, classes named as folders in DIR/train.

    aclImdb's layout: DIR/train/CLASS/*.txt, and DIR/test likewise (or val, or validation). A text
    is its first `length` words in lower case, filled up with padding behind them. The vocabulary
    is those two names and the most frequent words of the training texts, `vocabulary` altogether;
    of equally frequent ones the first in the alphabet.
    """

    sample_name = "texts"
    input_type = np.int64

    def __init__(self, folder: Path, options: TextFolderOptions) -> None:
        """Read all files.

        Raises:
            DataError: a folder is missing, empty or unexpected, a file no UTF-8 or not readable.
        """
        train, validation = _LAYOUT.list_splits(folder)
        self.classes = tuple(train)
        self.sample_shape = (options.length,)
        counts: Counter[str] = Counter()
        for path in paths(train):
            counts.update(split_words(read_text(path)))
        frequent = sorted(counts, key=lambda word: (-counts[word], word))
        self.vocabulary = (*NAMES, *frequent[: options.vocabulary - len(NAMES)])
        numbers = word_numbers(self.vocabulary)
        self._texts: dict[Split, npt.NDArray[np.int32]] = {
            "train": _texts(paths(train), numbers, options.length),
            "validation": _texts(paths(validation), numbers, options.length),
        }
        self._labels: dict[Split, npt.NDArray[np.integer]] = {
            "train": labels(train, self.classes),
            "validation": labels(validation, self.classes),
        }
        self.train_size, self.validation_size = map(len, self._texts.values())

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> TextFolder:
        """Open `textfolder:DIR[,vocabulary=10000][,length=200]`.

        Raises:
            UserError: the spec is not of that form, or `augment` is not none.
            DataError: a folder is missing, empty or unexpected, a file no UTF-8 or not readable.
        """
        folder = expect_folder(spec, "textfolder:DIR[,vocabulary=10000][,length=200]")
        options = parse_options(TextFolderOptions, spec, "data set textfolder")
        refuse_augmentation(augment, "textfolder")
        return cls(folder, options)

    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write texts `indices` (N,): inputs (N, length), targets (N,)."""
        out.inputs[:] = self._texts[split][indices]
        out.targets[:] = self._labels[split][indices]


def read_text(path: str) -> str:
    """What stands in a file.

    Raises:
        DataError: it is no UTF-8, or cannot be read.
    """
    return read_utf8(Path(path), "convert it")


def _texts(files: list[str], numbers: dict[str, int], length: int) -> npt.NDArray[np.int32]:
    """Word numbers, (texts, length). Read anew, since the words of all texts need much memory."""
    texts = np.empty((len(files), length), np.int32)
    for place, path in enumerate(files):
        texts[place] = encode_words(read_text(path), numbers, length)
    return texts
