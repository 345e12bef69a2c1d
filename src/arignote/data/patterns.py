"""Names of many files as one pattern: `train-{000..012}.tar`, `train-*.parquet`."""

from __future__ import annotations

import itertools
import math
import re
from glob import escape, glob
from pathlib import Path

from arignote.errors import DataError

# Some data sets have all of them, and then a test folder often has no labels.
VALIDATION_FOLDERS = ("val", "validation", "test")
"""What folders and files that validate may be called; the first that exists counts."""

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_FILES = 10**6


def match_files(pattern: str) -> list[str]:
    """The files that `pattern` stands for, in order.

    `{000..012}` counts, with the zeros in front; each of its files must be there. `*` is any part
    of a name, sorted.

    Raises:
        DataError: a file is missing, none matches, or a range makes no sense.
    """
    files = []
    for name in _expand_ranges(pattern):
        matching = any_files(name)
        if "*" not in name and not matching:
            raise DataError(f"no file {name}: check the path, or the pattern {pattern}")
        files += matching
    if not files:
        raise DataError(f"no file matches {pattern}: check the path")
    return files


def any_files(name: str) -> list[str]:
    """The files that a name stands for, with `*` or without; there may be none."""
    # No other sign of glob's is one of ours.
    names = glob(escape(name).replace("[*]", "*"))  # noqa: PTH207 - Path knows no escape
    return sorted(name for name in names if Path(name).is_file())


def validation_files(train: str) -> tuple[str, list[str]]:
    """The pattern and files that validate where only the pattern `train` is given.

    Its last "train", in the name of the files or of their folder, becomes val, validation or
    test, the first of these that there are files for.

    Raises:
        DataError: there are none.
    """
    path = Path(train)
    folder, near = path.parent.parent, str(Path(path.parent.name, path.name))
    before, found, behind = near.rpartition("train")
    if not found:
        raise DataError(
            f"{train}: no 'train' in the name of these files, so those that validate cannot be "
            "found: add validation=PATTERN"
        )
    names = (_RANGE.sub("*", f"{before}{name}{behind}") for name in VALIDATION_FOLDERS)
    tried = [str(folder / name) for name in names]
    for pattern in tried:
        files = any_files(pattern)
        if files:
            return pattern, files
    raise DataError(f"no file matches {', '.join(tried)}: add validation=PATTERN")


def _expand_ranges(pattern: str) -> list[str]:
    """All names that the ranges in `pattern` make; the last one counts fastest."""
    # Text and ranges in turn: "a{0..1}b" is split into a, 0, 1, b.
    pieces = _RANGE.split(pattern)
    texts = pieces[::3]
    ranges = [(a, b) for a, b in zip(pieces[1::3], pieces[2::3], strict=True)]
    lengths = [int(last) - int(first) + 1 for first, last in ranges]
    if min(lengths, default=1) < 1 or math.prod(lengths) > _MOST_FILES:
        raise DataError(
            f"{pattern} counts {' times '.join(f'{length:,}' for length in lengths)} files, "
            f"expected 1 to {_MOST_FILES:,}: write {{FIRST..LAST}}"
        )
    counts = [_count(first, last) for first, last in ranges]
    return [
        texts[0] + "".join(map("".join, zip(numbers, texts[1:], strict=True)))
        for numbers in itertools.product(*counts)
    ]


def _count(first: str, last: str) -> list[str]:
    """From `first` to `last`, of equal width where one of them has zeros in front."""
    padded = any(len(number) > 1 and number[0] == "0" for number in (first, last))
    width = max(len(first), len(last)) if padded else 0
    return [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]
