"""Everything Arignote raises on purpose.

    ArignoteError                    one line for the user, no traceback
    ├── UserError                    a mistake in what was asked: exit code 2
    │   └── DataError                a data set that is not what it should be
    ├── NotANumberError              the loss stopped being a number: exit code 2
    ├── CheckpointError              a checkpoint that cannot be used: exit code 2
    ├── LoaderError                  a loader did not bring a batch: exit code 1
    └── LostWorkerError              somebody did not come to a round in time: exit code 1

    ForeignError                     what code that is not ours raised in another process

A message says what we got, what is allowed and what to do, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArignoteError(Exception):
    """Base of all errors that are told to the user in one line, without a traceback."""

    exit_code = 2


class UserError(ArignoteError):
    """What the user asked for cannot be done as asked."""


class DataError(UserError):
    """A data set is missing, damaged or of the wrong shape; the message names the file."""


class NotANumberError(ArignoteError):
    """The loss of a worker is NaN or infinite; the message names the worker and the step."""


class CheckpointError(ArignoteError):
    """A checkpoint is damaged, or belongs to another run or model."""


class LostWorkerError(ArignoteError):
    """A worker did not come to a meeting before its deadline; the message names it."""

    exit_code = 1


class LoaderError(ArignoteError):
    """A loader stalls, or ends again and again; the message names it and the file it is at."""

    exit_code = 1


class ForeignError(Exception):
    """Code that is not ours raised in another process; the text is its traceback there."""


def unknown(kind: str, got: str, known: Iterable[str], meant: str = "") -> str:
    """The one-line message for a name we do not know: names the nearest, then all known ones.

    Args:
        meant: what is named instead of the nearest of the known ones.

    >>> unknown("rule", "bps", ["bsp", "easgd"])
    "unknown rule 'bps': did you mean 'bsp'? known: bsp, easgd"
    """
    names = sorted(known)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.5)
    hint = f"did you mean {(meant or near[0])!r}? " if meant or near else ""
    return f"unknown {kind} {got!r}: {hint}known: {', '.join(names)}"
