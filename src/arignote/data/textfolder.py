"""Folders of text files, one folder a class, as sequences of word numbers."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_folder
from arignote.data.augment import refuse_augmentation
from arignote.data.base import Batch, Dataset
from arignote.data.class_folders import Layout, labels, paths
from arignote.data.sharding import Indices
from arignote.data.text import read_utf8

PADDING, UNKNOWN = 0, 1
"""The words that stand for no word, and for all that are not in the vocabulary."""
_NAMES = ("<padding>", "<unknown>")
# aclImdb keeps reviews without a label in train/unsup.
_LAYOUT = Layout("texts", (".txt",), unlabelled=("unsup",))
_WORD = re.compile(r"\w+(?:'\w+)*")


class TextFolderOptions(BaseModel):
    """How many words are known, and how many of a text are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocabulary: Annotated[int, Field(ge=3, le=10**7)] = 10_000
    length: Annotated[int, Field(ge=1, le=10**6)] = 200


class TextFolder(Dataset):
    """`textfolder:DIR`: samples (length,) of word numbers, classes named as folders in DIR/train.

    aclImdb's layout: DIR/train/CLASS/*.txt, and DIR/test likewise (or val, or validation). A text
    is its first `length` words in lower case, filled up with `PADDING` behind them. The vocabulary
    is those two names and the most frequent words of the training texts, `vocabulary` altogether;
    of equally frequent ones the first in the alphabet.
    """

    sample_name = "texts"

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
            counts.update(_words(path))
        frequent = sorted(counts, key=lambda word: (-counts[word], word))
        self.vocabulary = (*_NAMES, *frequent[: options.vocabulary - len(_NAMES)])
        numbers = {word: number for number, word in enumerate(self.vocabulary)}
        self._train = _texts(paths(train), numbers, options.length)
        self._validation = _texts(paths(validation), numbers, options.length)
        self._train_labels = labels(train, self.classes)
        self._validation_labels = labels(validation, self.classes)
        self.train_size, self.validation_size = len(self._train), len(self._validation)

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

    def train_batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """Texts `indices` (N,): inputs (N, length) and targets (N,), both int64."""
        return _batch(self._train, self._train_labels, indices)

    def validation_batch(self, indices: Indices) -> Batch:
        """Texts `indices` (N,) of the validation set."""
        return _batch(self._validation, self._validation_labels, indices)


def _words(path: str) -> list[str]:
    return _WORD.findall(read_utf8(Path(path), "convert it").lower())


def _texts(files: list[str], numbers: dict[str, int], length: int) -> npt.NDArray[np.int32]:
    """Word numbers, (texts, length). Read anew, since the words of all texts need much memory."""
    texts = np.full((len(files), length), PADDING, np.int32)
    for place, path in enumerate(files):
        words = _words(path)[:length]
        texts[place, : len(words)] = [numbers.get(word, UNKNOWN) for word in words]
    return texts


def _batch(
    texts: npt.NDArray[np.int32], classes: npt.NDArray[np.integer], indices: Indices
) -> Batch:
    inputs = torch.from_numpy(texts[indices].astype(np.int64))
    return Batch(inputs, torch.from_numpy(classes[indices].astype(np.int64)))
