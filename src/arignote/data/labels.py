"""Labels that are numbers: which are allowed, and what the classes are called."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from arignote.errors import DataError

_MOST_CLASSES = 10**6
"""More are a mistake, such as labels that are no class numbers at all."""

Labels = npt.NDArray[np.integer]
"""Shape (N,)."""


class PlacedLabels(NamedTuple):
    """The labels of a split."""

    labels: Labels
    where: object
    """They stand, for messages: a path."""


def check_labels(where: object, labels: Labels, classes: int, advice: str) -> None:
    """Check that all are in range(classes); `where` they stand and `advice` go into the message.

    Raises:
        DataError: one is not.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels[wrong[0]]} at position {wrong[0]}, "
            f"expected 0..{classes - 1}{advice}"
        )


def number_classes(train: PlacedLabels, validation: PlacedLabels) -> tuple[str, ...]:
    """Classes "0" to the largest training label, after a check of both splits' labels.

    Raises:
        DataError: one is below 0, far too large, or occurs in validation only.
    """
    check_labels(train.where, train.labels, _MOST_CLASSES, ": number the classes from 0")
    classes = int(train.labels.max()) + 1
    advice = ", the labels of the training set"
    check_labels(validation.where, validation.labels, classes, advice)
    return tuple(str(label) for label in range(classes))


def named_classes(
    names: tuple[str, ...], named_by: object, train: PlacedLabels, validation: PlacedLabels
) -> tuple[str, ...]:
    """`names`, which `named_by` lists; where there are none, `number_classes`.

    Raises:
        DataError: a label has no name, or as `number_classes`.
    """
    if not names:
        return number_classes(train, validation)
    for labels, where in (train, validation):
        check_labels(where, labels, len(names), f", the classes that {named_by} names")
    return names


def read_class_names(folder: Path) -> tuple[str, ...]:
    """The lines of FOLDER/classes.txt, which are the classes' names; empty if there is none.

    Raises:
        DataError: it is no UTF-8, cannot be read, holds nothing, or holds a line twice.
    """
    path = folder / "classes.txt"
    if not path.is_file():
        return ()
    try:
        names = tuple(path.read_text(encoding="utf-8").strip().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}): save it as UTF-8") from None
    if not names or len(set(names)) < len(names):
        raise DataError(f"{path} holds no names or one twice: write one class name a line")
    return names
