"""A run's lock: held by its launcher for as long as the run goes on."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arignote.errors import UserError

_LOCK_FILE = ".lock"


@contextmanager
def only_launcher(run_folder: Path) -> Iterator[None]:
    """Hold the run's lock, so that no second launcher writes into the same folder.

    Raises:
        UserError: another launcher holds it, or the folder cannot be written.
    """
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        lock = (run_folder / _LOCK_FILE).open("w")
    except UnicodeError:
        raise UserError(f"run folder {str(run_folder)!r} is not valid UTF-8") from None
    except OSError as error:
        raise UserError(f"run folder {run_folder} cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{run_folder} is in use: another arignote is running it just now"
            ) from None
        except OSError:
            # Some shared file systems know no locks: then we go without.
            pass
        yield


def has_launcher(run_folder: Path) -> bool:
    """Whether a launcher holds the run's lock; where nobody can know, True."""
    try:
        with (run_folder / _LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        # It is held, or the file system knows no locks.
        return True
    return False
