"""Folders of JPEG and PNG files, one folder a class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from arignote.config.settings import Count
from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_folder
from arignote.data.augment import Images
from arignote.data.decode import ImageFiles, bad_images
from arignote.data.images import ImageDataset, Split
from arignote.data.sharding import Indices
from arignote.errors import DataError, unknown

_SUFFIXES = (".jpg", ".jpeg", ".png")
# Some data sets have all of them, and then a test folder often has no labels.
_VALIDATION_FOLDERS = ("val", "validation", "test")

_ClassFiles = dict[str, list[str]]
"""The files of each class, both in sorted order."""


class ImageFolderOptions(BaseModel):
    """What to do with images that are bad or of different sizes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    skip_bad: bool = False
    size: Count = 0


class ImageFolder(ImageDataset):
    """`imagefolder:DIR`: samples (3, H, W), classes named after the folders in DIR/train.

    Validation images are in DIR/val, DIR/validation or DIR/test, the first of these that
    exists. Names that begin with a dot are left alone. All images become RGB.
    """

    def __init__(self, folder: Path, options: ImageFolderOptions, *, augment: str) -> None:
        """List the files; with `skip_bad`, decode each once to leave out the bad ones.

        Raises:
            DataError: a folder is missing, empty or unexpected, or an image is bad.
        """
        train_folder, validation_folder = _split_folders(folder)
        train, validation = _list_classes(train_folder), _list_classes(validation_folder)
        classes = tuple(train)
        for name in validation:
            if name not in train:
                raise DataError(f"{validation_folder}: {unknown('class', name, classes)}")
        if options.skip_bad:
            bad = bad_images([*_paths(train), *_paths(validation)])
            self.skipped = tuple(bad)
            train = _without(train, set(bad), train_folder)
            validation = _without(validation, set(bad), validation_folder)
        size = options.size
        spec = f"imagefolder:{folder}{f',size={size}' if size else ''}"
        train_files = ImageFiles(_paths(train), size=size, spec=spec)
        shape = train_files.shape
        self._files: dict[Split, ImageFiles] = {
            "train": train_files,
            "validation": ImageFiles(_paths(validation), size=size, spec=spec, shape=shape),
        }
        super().__init__(
            classes=classes,
            sample_shape=(3, shape[0], shape[1]),
            train_labels=_labels(train, classes),
            validation_labels=_labels(validation, classes),
            augment=augment,
        )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> ImageFolder:
        """Open `imagefolder:DIR[,skip_bad=true][,size=N]`.

        Raises:
            UserError: the spec is not of that form.
            DataError: a folder is missing, empty or unexpected, or an image is bad.
        """
        folder = expect_folder(spec, "imagefolder:DIR[,skip_bad=true][,size=N]")
        options = parse_options(ImageFolderOptions, spec, "data set imagefolder")
        return cls(folder, options, augment=augment)

    def _images(self, split: Split, indices: Indices) -> Images:
        return self._files[split].images(indices)


def _split_folders(folder: Path) -> tuple[Path, Path]:
    """The training folder and the validation folder in `folder`."""
    if not (folder / "train").is_dir():
        raise DataError(f"{folder} has no folder train: expected {folder}/train/CLASS/*.jpg")
    for name in _VALIDATION_FOLDERS:
        if (folder / name).is_dir():
            return folder / "train", folder / name
    raise DataError(
        f"{folder} has no validation images: expected a folder {', '.join(_VALIDATION_FOLDERS)} "
        f"there, with {folder}/{_VALIDATION_FOLDERS[0]}/CLASS/*.jpg"
    )


def _list_classes(folder: Path) -> _ClassFiles:
    names = [entry.name for entry in _entries(folder) if entry.is_dir()]
    if not names:
        raise DataError(f"{folder} has no class folders: expected {folder}/CLASS/*.jpg")
    classes = {}
    for name in names:
        # No look at what a name stands for: a link that leads nowhere on one host would make
        # its list shorter than the others'. Reading it fails instead, with its name.
        files = [e.path for e in _entries(folder / name) if e.name.lower().endswith(_SUFFIXES)]
        if not files:
            raise DataError(
                f"{folder / name} holds no {', '.join(_SUFFIXES)} file: "
                f"put images there, or remove the folder"
            )
        classes[name] = files
    return classes


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in `folder`, sorted by name, without names that begin with a dot."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}): make it readable") from None
    return sorted(visible, key=lambda entry: entry.name)


def _paths(classes: _ClassFiles) -> list[str]:
    return [path for paths in classes.values() for path in paths]


def _labels(classes: _ClassFiles, names: tuple[str, ...]) -> npt.NDArray[np.integer]:
    lengths = [len(paths) for paths in classes.values()]
    return np.repeat([names.index(name) for name in classes], lengths)


def _without(classes: _ClassFiles, bad: set[str], folder: Path) -> _ClassFiles:
    kept = {name: [p for p in paths if p not in bad] for name, paths in classes.items()}
    for name, paths in kept.items():
        if not paths:
            raise DataError(
                f"{folder / name} holds bad images only: put good ones there, or remove the folder"
            )
    return kept
