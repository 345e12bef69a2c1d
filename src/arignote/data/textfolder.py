"""Folders of text files, one folder a class, as sequences of word numbers."""

from __future__ import annotations

from pathlib import Path

from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_folder
from arignote.data.augmentation.chain import refuse_augmentation
from arignote.data.class_folders import ClassFiles, Layout, labels, paths
from arignote.data.labelled_texts import LabelledTexts, TextOptions, TextSplit
from arignote.data.text import read_utf8

# aclImdb keeps reviews without a label in train/unsup.
_LAYOUT = Layout("texts", (".txt",), unlabelled=("unsup",))


class TextFolder(LabelledTexts):
    """`textfolder:DIR`: samples (length,) of word numbers, classes named as folders in DIR/train.

    aclImdb's layout: DIR/train/CLASS/*.txt, and DIR/test likewise (or val, or validation).
    """

    def __init__(self, folder: Path, options: TextOptions) -> None:
        """Read all files.

        Raises:
            DataError: a folder is missing, empty or unexpected, a file no UTF-8 or not readable.
        """
        train, validation = _LAYOUT.list_splits(folder)
        classes = tuple(train)
        super().__init__(
            _split(train, classes), _split(validation, classes), classes=classes, options=options
        )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> TextFolder:
        """Open `textfolder:DIR[,vocabulary=10000][,length=200]`.

        Raises:
            UserError: the spec is not of that form, or `augment` is not none.
            DataError: a folder is missing, empty or unexpected, a file no UTF-8 or not readable.
        """
        folder = expect_folder(spec, "textfolder:DIR[,vocabulary=10000][,length=200]")
        options = parse_options(TextOptions, spec, "data set textfolder")
        refuse_augmentation(augment, "textfolder")
        return cls(folder, options)


def read_text(path: str) -> str:
    """What stands in a file.

    Raises:
        DataError: it is no UTF-8, or cannot be read.
    """
    return read_utf8(Path(path), "convert it")


def _split(files: ClassFiles, classes: tuple[str, ...]) -> TextSplit:
    return TextSplit(lambda: map(read_text, paths(files)), labels(files, classes))
