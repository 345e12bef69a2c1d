"""Parquet and Arrow files with a column of images or texts, and one of labels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from arignote.config.spec import Spec
from arignote.data.columns import Columns
from arignote.data.labelled_texts import TextOptions, TextSplit
from arignote.data.labels import PlacedLabels, named_classes
from arignote.data.patterns import any_files, match_files, validation_files
from arignote.data.tables import ColumnImages, open_tables, read_labels, read_texts
from arignote.errors import DataError, UserError

if TYPE_CHECKING:
    from arignote.data.parquet import ParquetOptions

_IN_FOLDER = ("train-*.parquet", "data/train-*.parquet", "train/*.arrow")
_ONLY_OF = {"images": ("image", "size"), "texts": ("text", *TextOptions.model_fields)}
"""Options that are for one kind only."""


class Tables:
    """The files of both splits, and which of their columns are read."""

    def __init__(self, spec: Spec, options: ParquetOptions) -> None:
        """Open the files, choose the columns, read the labels.

        Raises:
            UserError: an option does not fit the columns.
            DataError: a file is missing or damaged, or does not have the columns.
        """
        pattern, paths = _train_files(spec.arguments[0])
        if options.validation:
            other, other_paths = options.validation, match_files(options.validation)
        else:
            other, other_paths = validation_files(pattern)
        self._files = open_tables(paths), open_tables(other_paths)
        first = self._files[0][0]
        columns = Columns(first.schema, first.path)
        image = "" if options.text else columns.images(options.image)
        self.hold_images = bool(image)
        self._column = image or columns.texts(options.text)
        if not self._column:
            raise DataError(f"{first.path} has no column of images and none of texts: {columns}")
        self._refuse_options(spec)
        label = columns.labels(options.label)
        for file in (*self._files[0], *self._files[1]):
            columns.check(file.schema, file.path, (self._column, label))
        self.train_labels, self.validation_labels = (
            read_labels(files, label) for files in self._files
        )
        self.classes = named_classes(
            columns.classes(label),
            f"column {label}",
            PlacedLabels(self.train_labels, pattern),
            PlacedLabels(self.validation_labels, other),
        )

    def images(self) -> tuple[ColumnImages, ColumnImages]:
        """Of training and of validation."""
        train, validation = self._files
        return ColumnImages(train, self._column), ColumnImages(validation, self._column)

    def texts(self) -> tuple[TextSplit, TextSplit]:
        """Of training and of validation."""
        train, validation = (partial(read_texts, files, self._column) for files in self._files)
        return TextSplit(train, self.train_labels), TextSplit(validation, self.validation_labels)

    def _refuse_options(self, spec: Spec) -> None:
        holds, other = ("images", "texts") if self.hold_images else ("texts", "images")
        for name in _ONLY_OF[other]:
            if name in spec.options:
                raise UserError(
                    f"data set parquet: {name}= is for {other}, and column {self._column} holds "
                    f"{holds}: leave it out"
                )


def _train_files(argument: str) -> tuple[str, list[str]]:
    """The pattern of the training files, and those; `argument` is a pattern or their folder."""
    if not Path(argument).is_dir():
        return argument, match_files(argument)
    for pattern in (str(Path(argument, name)) for name in _IN_FOLDER):
        if files := any_files(pattern):
            return pattern, files
    raise DataError(f"{argument} holds no {', '.join(_IN_FOLDER)}: expected one of them there")
