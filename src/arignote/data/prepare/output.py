"""The folder that is prepared: files that are whole or not there, and what is done so far.

The bad story that the order of the steps prevents:
1. a shard is written, the system keeps its last part in memory,
2. the list of what is done names it,
3. the power fails, and the shard ends with zeros.

So each file is written aside, flushed, and renamed into place; then the list, likewise; the
index comes last.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from arignote.data.pixels import Images
from arignote.data.shard_index import PROGRESS, ShardFile
from arignote.durable import flush
from arignote.errors import DataError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Progress(BaseModel):
    """What `progress.json` holds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    """The digest of what is prepared."""
    shards: tuple[ShardFile, ...] = ()
    """Those that are whole, of training and then of validation."""
    counts: tuple[tuple[int, ...], ...]
    """Of the pixel values of their training images: (C, 256)."""
    skipped: tuple[str, ...] = ()


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """Make the folder, and hold it so that no second `prepare` writes into it.

    Raises:
        DataError: another one does, or the folder cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            # Of the folder itself, so that no file is left to tell.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(f"{folder} is in use: another prepare writes into it") from None
        except OSError:
            # Some shared file systems know no locks: then we go without.
            pass
        yield
    finally:
        os.close(handle)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What goes wrong when `folder` is written, as one line."""
    try:
        yield
    except OSError as error:
        advice = "make room" if error.errno in _FULL else "make it writable, or name another"
        raise DataError(
            f"{folder} cannot be written ({error.strerror}): {advice}, and run it again: whole "
            "shards are kept"
        ) from None


def read_progress(folder: Path) -> Progress | None:
    """What is done so far, None: nothing.

    Raises:
        DataError: the list is damaged.
    """
    path = folder / PROGRESS
    try:
        return Progress.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError):
        raise DataError(f"{path} is damaged: begin anew with --force") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either as before or all there, whatever happens.

    Raises:
        DataError: it cannot be written.
    """
    with _aside(path) as file, writing(path.parent):
        file.write(content)


class ShardWriter:
    """Writes one shard; see `new_shard`."""

    def __init__(self, folder: Path, file: IO[bytes]) -> None:
        self._folder, self._file = folder, file
        self._digest = hashlib.sha256()
        self.images = 0

    def add(self, images: Images) -> None:
        """Append images (N, size, size, 3).

        Raises:
            DataError: they cannot be written.
        """
        content = images.tobytes()
        with writing(self._folder):
            self._file.write(content)
        self._digest.update(content)
        self.images += len(images)

    @property
    def sha256(self) -> str:
        """Of all that was added."""
        return self._digest.hexdigest()


@contextmanager
def new_shard(path: Path) -> Iterator[ShardWriter]:
    """A shard that is in its place once the context is left without an error.

    Raises:
        DataError: it cannot be written.
    """
    with _aside(path) as file:
        yield ShardWriter(path.parent, file)


@contextmanager
def _aside(path: Path) -> Iterator[IO[bytes]]:
    part = path.with_name(f".{path.name}.part")
    with writing(path.parent):
        file = part.open("wb")
    try:
        yield file
        with writing(path.parent):
            file.flush()
            os.fsync(file.fileno())
            file.close()
            part.replace(path)
            flush(path.parent)
    except BaseException:
        # To close it is to write what is left of it, which may fail as before.
        for give_up in (file.close, part.unlink):
            with suppress(OSError):
                give_up()
        raise
