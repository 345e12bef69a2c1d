"""What a source of images is: where each image lies, and its class."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from arignote.errors import DataError


class Sample(NamedTuple):
    """One image: a file, or a part of an archive."""

    name: str
    """The same wherever the source lies: train/cat/1.jpg."""
    path: str
    """Of the file that holds it."""
    label: int
    offset: int = 0
    """Where it begins in that file, in bytes."""
    size: int = -1
    """Its length in bytes; -1: all of the file."""

    @property
    def place(self) -> str:
        """What messages call it."""
        return self.path if self.size < 0 else f"{self.path}: {self.name}"


@dataclass(frozen=True)
class Source:
    """All images, in the order in which they are listed."""

    classes: tuple[str, ...]
    train: list[Sample]
    validation: list[Sample]

    def digest(self, *options: int) -> str:
        """A digest of all names, their order and their classes, and of `options`.

        Not of what the files hold: a bad one may be replaced, and the preparation goes on.

        Raises:
            DataError: a name is not UTF-8.
        """
        digest = hashlib.sha256(ascii((options, self.classes)).encode())
        for samples in (self.train, self.validation):
            digest.update(f"{len(samples)}\n".encode())
            for line in _lines(samples):
                digest.update(line)
        return digest.hexdigest()


def _lines(samples: Iterable[Sample]) -> Iterable[bytes]:
    for s in samples:
        try:
            yield f"{s.name}\0{s.label}\0{s.offset}\0{s.size}\n".encode()
        except UnicodeEncodeError:
            raise DataError(f"the name {s.name!r} is not UTF-8: rename the file") from None
