"""Arrays in .npy files, mapped into memory; never Python pickles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arignote.data.labels import Labels
from arignote.errors import DataError


def read_labelled(
    folder: Path, split: str, expected: Sequence[str]
) -> tuple[npt.NDArray[Any], Labels]:
    """FOLDER/x_SPLIT.npy, mapped (N, ...), and FOLDER/y_SPLIT.npy, read (N,).

    `expected` are the files that the data set wants altogether.

    Raises:
        DataError: one is missing, empty or no array, or they do not fit together.
    """
    samples_path, labels_path = folder / f"x_{split}.npy", folder / f"y_{split}.npy"
    samples, labels = _map(samples_path, expected), _map(labels_path, expected)
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(labels),), (len(labels), 1)):
        raise DataError(
            f"{labels_path} holds {labels.dtype} of shape {labels.shape}, "
            f"expected whole numbers of shape (N,) or (N, 1)"
        )
    if len(samples) != len(labels):
        raise DataError(
            f"{samples_path} holds {len(samples)} samples, {labels_path.name} {len(labels)} "
            f"labels: their numbers must be equal"
        )
    return samples, np.array(labels).reshape(-1)


def _map(path: Path, expected: Sequence[str]) -> npt.NDArray[Any]:
    """Map the array of an .npy file; scalars and empty arrays are refused."""
    if not path.is_file():
        raise DataError(f"{path.parent} has no {path.name}: expected {', '.join(expected)}")
    try:
        # Not np.load, which also opens archives; this knows plain arrays only, never pickles.
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(
            f"{path} is no plain .npy array ({reason}): save it anew with numpy.save"
        ) from None
    if not array.size or not array.ndim:
        raise DataError(f"{path} has the shape {array.shape}: at least one sample is needed")
    return array
