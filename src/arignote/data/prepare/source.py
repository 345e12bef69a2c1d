"""From SRC to its images: a folder, a tar of the same layout, ImageNet, or names alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from arignote.data.class_folders import IMAGES, ClassFiles
from arignote.data.patterns import VALIDATION_FOLDERS
from arignote.data.prepare import imagenet
from arignote.data.prepare.samples import Sample, Source
from arignote.data.prepare.tars import Member, list_images
from arignote.errors import DataError, unknown

_SUFFIXES = ", ".join(IMAGES.suffixes)


def open_images(path: Path, validation_share: float | None) -> Source:
    """`open_named`, or where no share is given `open_source`.

    Raises:
        DataError: as theirs.
    """
    return open_source(path) if validation_share is None else open_named(path, validation_share)


def open_source(path: Path) -> Source:
    """The images of a folder or a tar with train/CLASS/* and val/CLASS/*, or of ImageNet's tars.

    Raises:
        DataError: it is missing, damaged, or of none of these layouts.
    """
    if path.is_file():
        return _list_tar(path)
    if not path.is_dir():
        raise DataError(f"{path} does not exist: name a folder of images, or a tar of one")
    if (path / imagenet.TRAIN).is_file():
        return imagenet.list_imagenet(path)
    if not (path / "train").is_dir():
        raise DataError(
            f"{path} has neither a folder train nor {imagenet.TRAIN}: expected "
            f"{path}/train/CLASS/*.jpg; or add --class-from-name, if images there are named "
            "CLASS_*.jpg"
        )
    train, validation = IMAGES.list_splits(path)
    return Source(
        tuple(train),
        list(_in_folder(path, train, tuple(train))),
        list(_in_folder(path, validation, tuple(train))),
    )


def open_named(path: Path, validation_share: float) -> Source:
    """`list_named`, in two splits.

    An image is of validation if the SHA-256 of its name, as a share of the largest, is below
    `validation_share`: so each stays where it is when others come or go.

    Raises:
        DataError: there are none, a name has no underscore, or a split is empty.
    """
    classes, samples = list_named(path)
    source = Source(classes, [], [])
    for sample in samples:
        split = source.validation if _share(sample.name) < validation_share else source.train
        split.append(sample)
    if not source.train or not source.validation:
        empty, advice = ("training", "lower") if source.validation else ("validation", "raise")
        raise DataError(
            f"--val-share {validation_share:g} leaves no {empty} image of {len(samples):,}: "
            f"{advice} it"
        )
    return source


def list_named(path: Path) -> tuple[tuple[str, ...], list[Sample]]:
    """Classes and images of a folder, or anywhere in a tar, whose names begin with their class.

    The class is what stands before the first underscore.

    Raises:
        DataError: there are none, or a name has no underscore.
    """
    if path.is_file():
        places = [("/".join(m.parts), m.offset, m.size) for m in list_images(path)]
        files = [(name, str(path), offset, size) for name, offset, size in places]
    else:
        files = [(name, str(path / name), 0, -1) for name in _image_names(path)]
    if not files:
        raise DataError(f"{path} holds no {_SUFFIXES} file: name a folder or a tar of images")
    labels = [_class_of(name, path) for name, *_ in files]
    classes = tuple(sorted(set(labels)))
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, [
        Sample(name, place, numbers[label], offset, size)
        for (name, place, offset, size), label in zip(files, labels, strict=True)
    ]


def _in_folder(root: Path, files: ClassFiles, classes: tuple[str, ...]) -> Iterable[Sample]:
    for name, paths in files.items():
        label = classes.index(name)
        for path in paths:
            yield Sample(os.path.relpath(path, root), path, label)


def _list_tar(path: Path) -> Source:
    """The images of a tar with train/CLASS/* and val/CLASS/*, there or in one folder above."""
    splits: dict[str, dict[str, list[Member]]] = {}
    for member in list_images(path):
        if len(member.parts) >= 3:
            split, label, _ = member.parts[-3:]
            splits.setdefault(split, {}).setdefault(label, []).append(member)
    train = splits.get("train")
    validation = next((splits[name] for name in VALIDATION_FOLDERS if name in splits), None)
    if train is None or validation is None:
        missing = "train" if train is None else ", ".join(VALIDATION_FOLDERS)
        raise DataError(
            f"{path} has no images in {missing}: expected train/CLASS/*.jpg and val/CLASS/*.jpg; "
            "or add --class-from-name, if they are named CLASS_*.jpg"
        )
    classes = tuple(sorted(train))
    for name in validation:
        if name not in train:
            raise DataError(f"{path}: {unknown('class', name, train)}")
    return Source(
        classes,
        list(_in_tar(path, train, classes)),
        list(_in_tar(path, validation, classes)),
    )


def _in_tar(
    path: Path, members: dict[str, list[Member]], classes: tuple[str, ...]
) -> Iterable[Sample]:
    for label, name in enumerate(classes):
        for member in members.get(name, []):
            yield Sample("/".join(member.parts), str(path), label, member.offset, member.size)


def _image_names(folder: Path) -> list[str]:
    """The images right in a folder, sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder} does not exist: name a folder of images, or a tar of them")
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}): make it readable") from None
    return sorted(
        name
        for name in names
        if name.lower().endswith(IMAGES.suffixes) and not name.startswith(".")
    )


def _class_of(name: str, path: Path) -> str:
    label, underscore, _ = name.rpartition("/")[2].partition("_")
    if not label or not underscore:
        raise DataError(
            f"{path}: {name} does not begin with a class and an underscore, as "
            "--class-from-name expects: rename it, or put images into class folders"
        )
    return label


def _share(name: str) -> float:
    """The hash of a file's name, 0 ... 1."""
    digest = hashlib.sha256(name.rpartition("/")[2].encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
