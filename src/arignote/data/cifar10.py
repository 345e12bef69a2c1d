"""CIFAR-10: the original binary files, or the same as NumPy arrays; never Python pickles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from arignote.config.spec import Spec
from arignote.data.arguments import expect_folder, expect_no_options
from arignote.data.base import Split
from arignote.data.images import ImageDataset
from arignote.data.labels import Labels, check_labels
from arignote.data.npy_files import read_labelled
from arignote.data.pixels import Images
from arignote.data.sharding import Indices
from arignote.errors import DataError

_FORM = "cifar10:DIR"
_BINARY_FOLDER = "cifar-10-batches-bin"
_PICKLE_FOLDER = "cifar-10-batches-py"
_TRAIN_FILES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
_TEST_FILES = ("test_batch.bin",)
_ARRAYS = ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy")
_GET_AGAIN = ": get it again"
_RECORD = 1 + 3 * 32 * 32
_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_Labelled = tuple[Images, Labels]
"""Images (N, 32, 32, 3) and their labels (N,)."""


class Cifar10(ImageDataset):
    """`cifar10:DIR`: samples (3, 32, 32), ten classes.

    DIR, or DIR/cifar-10-batches-bin, holds data_batch_1.bin to data_batch_5.bin and
    test_batch.bin; or DIR holds x_train.npy, y_train.npy, x_test.npy and y_test.npy.
    """

    def __init__(self, folder: Path, *, augment: str) -> None:
        """Read or map both splits.

        Raises:
            DataError: files are missing, or one is not what it should be.
        """
        binary = next(
            (
                place
                for place in (folder, folder / _BINARY_FOLDER)
                if any((place / name).is_file() for name in (*_TRAIN_FILES, *_TEST_FILES))
            ),
            None,
        )
        if binary is not None:
            train, train_labels = _read_binary(binary, _TRAIN_FILES)
            validation, validation_labels = _read_binary(binary, _TEST_FILES)
        elif any((folder / name).is_file() for name in _ARRAYS):
            train, train_labels = _read_arrays(folder, "train")
            validation, validation_labels = _read_arrays(folder, "test")
        else:
            raise DataError(_nothing_found(folder))
        self._splits: dict[Split, Images] = {"train": train, "validation": validation}
        super().__init__(
            classes=_CLASSES if binary is None else _class_names(binary),
            sample_shape=(3, 32, 32),
            train_labels=train_labels,
            validation_labels=validation_labels,
            augment=augment,
        )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> Cifar10:
        """Open `cifar10:DIR`.

        Raises:
            UserError: the spec is not of that form.
            DataError: files are missing, or one is not what it should be.
        """
        folder = expect_folder(spec, _FORM)
        expect_no_options(spec)
        return cls(folder, augment=augment)

    def _images(self, split: Split, indices: Indices) -> Images:
        return self._splits[split][indices]


def _nothing_found(folder: Path) -> str:
    pickled = [folder / "data_batch_1", folder / _PICKLE_FOLDER / "data_batch_1"]
    if any(path.is_file() for path in pickled):
        return (
            f"{folder} holds CIFAR-10 as Python pickles, which are never loaded: "
            f"get the binary version, cifar-10-binary.tar.gz, and unpack it there"
        )
    return (
        f"{folder} holds no CIFAR-10: expected {_TRAIN_FILES[0]} to {_TRAIN_FILES[-1]} and "
        f"{_TEST_FILES[0]} (there or in {_BINARY_FOLDER}), or {', '.join(_ARRAYS)}"
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    path = folder / "batches.meta.txt"
    if not path.is_file():
        return _CLASSES
    names = tuple(path.read_text(encoding="utf-8", errors="replace").split())
    if len(names) != len(_CLASSES):
        raise DataError(f"{path} names {len(names)} classes, expected {len(_CLASSES)}")
    return names


def _read_binary(folder: Path, names: tuple[str, ...]) -> _Labelled:
    """All records of the files: a byte for the label, then the planes red, green, blue."""
    parts = []
    for name in names:
        path = folder / name
        if not path.is_file():
            raise DataError(f"{folder} has no {name}: expected {', '.join(names)}")
        size = path.stat().st_size
        if not size or size % _RECORD:
            raise DataError(
                f"{path} holds {size:,} bytes, expected a multiple of {_RECORD:,}: get it again"
            )
        records = np.fromfile(path, np.uint8).reshape(-1, _RECORD)
        check_labels(path, records[:, 0], len(_CLASSES), _GET_AGAIN)
        parts.append(records)
    records = np.concatenate(parts)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def _read_arrays(folder: Path, split: str) -> _Labelled:
    images, labels = read_labelled(folder, split, _ARRAYS)
    if images.dtype != np.uint8 or images.shape[1:] not in ((32, 32, 3), (3, 32, 32)):
        raise DataError(
            f"{folder / f'x_{split}.npy'} holds {images.dtype} of shape {images.shape}, "
            f"expected uint8 of shape (N, 32, 32, 3) or (N, 3, 32, 32)"
        )
    check_labels(folder / f"y_{split}.npy", labels, len(_CLASSES), _GET_AGAIN)
    return images if images.shape[3] == 3 else images.transpose(0, 2, 3, 1), labels
