"""Labelled NumPy arrays: images, or numbers of any shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arignote.config.spec import Spec
from arignote.data.arguments import expect_folder, expect_no_options
from arignote.data.arrays import ArrayDataset, Arrays
from arignote.data.augmentation.chain import refuse_augmentation
from arignote.data.base import Split
from arignote.data.images import ImageDataset
from arignote.data.labels import Labels, PlacedLabels, named_classes, read_class_names
from arignote.data.npy_files import read_labelled
from arignote.data.pixels import Images
from arignote.data.sharding import Indices
from arignote.errors import DataError

# Some have both, and then those called test often have no labels.
_VALIDATION = ("val", "test")
_EXPECTED = ("x_train.npy", "y_train.npy", "x_test.npy (or x_val.npy)", "y_test.npy (or y_val.npy)")


class Npy(ArrayDataset):
    """`npy:DIR`: x_train.npy, y_train.npy, x_test.npy, y_test.npy (or x_val.npy, y_val.npy).

    uint8 of shape (N, H, W) or (N, H, W, C), C 1 or 3, are images; floats of shape (N, ...)
    are taken as they are. Labels are whole numbers; DIR/classes.txt may name them.
    """

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> Npy:
        """Open `npy:DIR`, as `NpyImages` or as `NpyNumbers`.

        Raises:
            UserError: the spec is not of that form, or numbers are to be augmented.
            DataError: a file is missing or no array, or they do not fit together.
        """
        folder = expect_folder(spec, "npy:DIR")
        expect_no_options(spec)
        names = [name for name in _VALIDATION if (folder / f"x_{name}.npy").is_file()]
        validation_name = names[0] if names else _VALIDATION[-1]
        train, train_labels = read_labelled(folder, "train", _EXPECTED)
        validation, validation_labels = read_labelled(folder, validation_name, _EXPECTED)
        _check_samples(
            folder / "x_train.npy", train, folder / f"x_{validation_name}.npy", validation
        )
        samples: dict[Split, npt.NDArray[Any]] = {"train": train, "validation": validation}
        labels: dict[Split, Labels] = {"train": train_labels, "validation": validation_labels}
        classes = named_classes(
            read_class_names(folder),
            "classes.txt",
            PlacedLabels(train_labels, folder / "y_train.npy"),
            PlacedLabels(validation_labels, folder / f"y_{validation_name}.npy"),
        )
        if train.dtype == np.uint8:
            return NpyImages(samples, labels, classes, augment=augment)
        refuse_augmentation(augment, "npy")
        return NpyNumbers(samples, labels, classes)


class NpyImages(Npy, ImageDataset):
    """Images of 0..255: samples (C, H, W), augmented and normalised."""

    def __init__(
        self,
        images: dict[Split, npt.NDArray[np.uint8]],
        labels: dict[Split, Labels],
        classes: tuple[str, ...],
        *,
        augment: str,
    ) -> None:
        """Of each split: images (N, H, W) or (N, H, W, C), labels (N,)."""
        self._splits = {
            split: array[..., None] if array.ndim == 3 else array for split, array in images.items()
        }
        height, width, channels = self._splits["train"].shape[1:]
        super().__init__(
            classes=classes,
            sample_shape=(channels, height, width),
            train_labels=labels["train"],
            validation_labels=labels["validation"],
            augment=augment,
        )

    def _images(self, split: Split, indices: Indices) -> Images:
        return self._splits[split][indices]


class NpyNumbers(Npy):
    """Numbers, as float32 and otherwise as they are: samples of any shape."""

    sample_name = "samples"

    def __init__(
        self,
        numbers: dict[Split, npt.NDArray[np.floating]],
        labels: dict[Split, Labels],
        classes: tuple[str, ...],
    ) -> None:
        """Of each split: numbers (N, ...), labels (N,)."""
        self._numbers, self._labels = numbers, labels
        self.classes = classes
        self.sample_shape = numbers["train"].shape[1:]
        self.train_size, self.validation_size = map(len, labels.values())

    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write samples `indices` (N,): inputs (N, *sample_shape), targets (N,)."""
        out.inputs[:] = self._numbers[split][indices]
        out.targets[:] = self._labels[split][indices]


def _check_samples(
    train_path: Path, train: npt.NDArray[Any], path: Path, validation: npt.NDArray[Any]
) -> None:
    """Check that both are images of one size, or numbers of one shape."""
    shape, kind = train.shape[1:], train.dtype
    is_image = kind == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)))
    if not is_image and not (kind.kind == "f" and shape):
        raise DataError(
            f"{train_path} holds {kind} of shape {train.shape}, expected images (uint8 of shape "
            f"(N, H, W) or (N, H, W, C) with C 1 or 3) or floats of shape (N, ...): convert it"
        )
    same_kind = is_image == (validation.dtype == np.uint8) and validation.dtype.kind in "uf"
    if validation.shape[1:] != shape or not same_kind:
        raise DataError(
            f"{train_path} holds {kind} of shape (N, {_shape(shape)}), {path.name} "
            f"{validation.dtype} of shape (N, {_shape(validation.shape[1:])}): both must be alike"
        )


def _shape(sides: tuple[int, ...]) -> str:
    return ", ".join(map(str, sides))
