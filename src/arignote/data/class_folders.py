"""Folders of labelled files: DIR/train/CLASS/* and DIR/test/CLASS/*, one folder a class."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from arignote.data.patterns import VALIDATION_FOLDERS
from arignote.errors import DataError, unknown

ClassFiles: TypeAlias = dict[str, list[str]]
"""The files of each class, both in sorted order."""


@dataclass(frozen=True)
class Layout:
    """What the files of a data set are."""

    kind: str
    """In the plural, for messages: images."""
    suffixes: tuple[str, ...]
    """How their names end, in lower case."""
    unlabelled: tuple[str, ...] = ()
    """Names of folders that are no class."""

    def list_splits(self, folder: Path) -> tuple[ClassFiles, ClassFiles]:
        """The training files and the validation files under `folder`.

        Validation files are in DIR/val, DIR/validation or DIR/test, the first of these that
        exists. Names that begin with a dot are left alone.

        Raises:
            DataError: a folder is missing, empty, unexpected, or cannot be listed.
        """
        train_folder, validation_folder = self._split_folders(folder)
        train, validation = self._classes(train_folder), self._classes(validation_folder)
        for name in validation:
            if name not in train:
                raise DataError(f"{validation_folder}: {unknown('class', name, train)}")
        return train, validation

    def _split_folders(self, folder: Path) -> tuple[Path, Path]:
        example = f"CLASS/*{self.suffixes[0]}"
        if not (folder / "train").is_dir():
            raise DataError(f"{folder} has no folder train: expected {folder}/train/{example}")
        for name in VALIDATION_FOLDERS:
            if (folder / name).is_dir():
                return folder / "train", folder / name
        raise DataError(
            f"{folder} has no validation {self.kind}: expected a folder "
            f"{', '.join(VALIDATION_FOLDERS)} there, with "
            f"{folder}/{VALIDATION_FOLDERS[0]}/{example}"
        )

    def _classes(self, folder: Path) -> ClassFiles:
        names = [entry.name for entry in _entries(folder) if entry.is_dir()]
        names = [name for name in names if name not in self.unlabelled]
        if not names:
            raise DataError(
                f"{folder} has no class folders: expected {folder}/CLASS/*{self.suffixes[0]}"
            )
        classes = {}
        for name in names:
            # No look at what a name stands for: a link that leads nowhere on one host would make
            # its list shorter than the others'. Reading it fails instead, with its name.
            entries = _entries(folder / name)
            files = [e.path for e in entries if e.name.lower().endswith(self.suffixes)]
            if not files:
                raise DataError(
                    f"{folder / name} holds no {', '.join(self.suffixes)} file: "
                    f"put {self.kind} there, or remove the folder"
                )
            classes[name] = files
        return classes


IMAGES = Layout("images", (".jpg", ".jpeg", ".png"))
"""What `imagefolder` reads, and `prepare`."""


def paths(classes: ClassFiles) -> list[str]:
    """All files, class by class."""
    return [path for files in classes.values() for path in files]


def labels(classes: ClassFiles, names: tuple[str, ...]) -> npt.NDArray[np.integer]:
    """The class of each of `paths(classes)`, as an index into `names`."""
    lengths = [len(files) for files in classes.values()]
    return np.repeat([names.index(name) for name in classes], lengths)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in `folder`, sorted by name, without names that begin with a dot."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}): make it readable") from None
    return sorted(visible, key=lambda entry: entry.name)
