"""MNIST's own file format (IDX), which Fashion-MNIST, KMNIST and EMNIST follow."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arignote.config.spec import Spec
from arignote.data.arguments import expect_folder, expect_no_options
from arignote.data.base import Split
from arignote.data.images import ImageDataset
from arignote.data.labels import PlacedLabels, number_classes
from arignote.data.pixels import Images
from arignote.data.sharding import Indices
from arignote.errors import DataError

_UINT8 = 0x08


class Idx(ImageDataset):
    """`idx:DIR`: samples (1, H, W) from train-* and t10k-*, classes "0" to the largest label."""

    def __init__(self, folder: Path, *, augment: str) -> None:
        """Read the four files, each with or without `.gz`.

        Raises:
            DataError: a file is missing or damaged, or they do not fit together.
        """
        train, train_labels, _ = _read_split(folder, "train")
        validation, validation_labels, labels_path = _read_split(folder, "t10k")
        if train.shape[1:] != validation.shape[1:]:
            raise DataError(
                f"{folder}: train images are {_sides(train)}, t10k images {_sides(validation)}: "
                f"both must be of one size"
            )
        classes = number_classes(
            PlacedLabels(train_labels, folder), PlacedLabels(validation_labels, labels_path)
        )
        self._splits: dict[Split, Images] = {"train": train, "validation": validation}
        super().__init__(
            classes=classes,
            sample_shape=(1, *train.shape[1:3]),
            train_labels=train_labels,
            validation_labels=validation_labels,
            augment=augment,
        )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> Idx:
        """Open `idx:DIR`.

        Raises:
            UserError: the spec is not of that form.
            DataError: a file is missing or damaged, or they do not fit together.
        """
        folder = expect_folder(spec, "idx:DIR")
        expect_no_options(spec)
        return cls(folder, augment=augment)

    def _images(self, split: Split, indices: Indices) -> Images:
        return self._splits[split][indices]


def _read_split(folder: Path, prefix: str) -> tuple[Images, npt.NDArray[np.uint8], Path]:
    """Images (N, H, W, 1), labels (N,) and the labels' path."""
    images_path = _find(folder, f"{prefix}-images-idx3-ubyte")
    labels_path = _find(folder, f"{prefix}-labels-idx1-ubyte")
    images, labels = _read(images_path, 3), _read(labels_path, 1)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, {labels_path.name} {len(labels)} labels: "
            f"their numbers must be equal"
        )
    return images[..., None], labels, labels_path


def _find(folder: Path, name: str) -> Path:
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise DataError(f"{folder} has no {name} and no {name}.gz: idx:DIR needs one of them")


def _read(path: Path, axes: int) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes with so many axes.

    The file begins with two zero bytes, the type and the number of axes; then comes each
    axis' length, 32 bits big-endian; then the values.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}): get it again") from None
    magic = bytes((0, 0, _UINT8, axes))
    if content[:4] != magic:
        raise DataError(
            f"{path} begins with {content[:4].hex() or 'nothing'}, expected {magic.hex()}, an IDX "
            f"file of bytes with {axes} ax{'i' if axes == 1 else 'e'}s: get the original file"
        )
    header = 4 + 4 * axes
    lengths = [int.from_bytes(content[at : at + 4], "big") for at in range(4, header, 4)]
    expected = header + math.prod(lengths)
    if len(content) != expected:
        raise DataError(
            f"{path} should hold {expected:,} bytes by its header, got {len(content):,}: "
            f"get it again"
        )
    if len(content) == header:
        raise DataError(f"{path} is empty by its header: at least one sample is needed")
    return np.frombuffer(content, np.uint8, offset=header).reshape(lengths)


def _sides(images: Images) -> str:
    return "x".join(str(side) for side in images.shape[1:3])
