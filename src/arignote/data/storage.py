"""Files on storage that fails for a moment, as network file systems do."""

from __future__ import annotations

import errno
import time
from pathlib import Path

from arignote.data.stages import stage
from arignote.errors import DataError

_PASSING = frozenset(
    {
        errno.EIO,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNRESET,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EREMOTEIO,
    }
)
"""What a second try may find gone."""
PATIENCE_SECONDS = 20.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0


def read_file(path: str, offset: int = 0, size: int = -1) -> bytes:
    """`size` bytes of a file from `offset` on, all if below 0.

    Where its storage fails, that is tried again for `PATIENCE_SECONDS`.

    Raises:
        DataError: it cannot be read.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            with stage("read", path), Path(path).open("rb") as file:
                file.seek(offset)
                return file.read(size)
        except OSError as error:
            if error.errno not in _PASSING:
                raise DataError(
                    f"{path} cannot be read ({error.strerror}): make it readable"
                ) from None
            if time.monotonic() + pause > deadline:
                raise DataError(
                    f"{path} cannot be read ({error.strerror}), tried for "
                    f"{PATIENCE_SECONDS:g} s: is its storage there?"
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
