"""WebDataset's tar files: which samples they hold, and where in them the images lie."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from arignote.data.labels import Labels
from arignote.data.storage import read_file
from arignote.data.tar_headers import Member, read_members
from arignote.errors import DataError

_IMAGES = ("jpg", "jpeg", "png")
_SPLIT = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)")
"""KEY.SUFFIX; a key may have folders before it. Names that begin with a dot are no samples."""
_META = re.compile(r"__[^/]*__($|/)")
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""How files of each kind begin."""
_LABELS_BELOW = 2**31


class Sample(NamedTuple):
    """One sample of a tar."""

    key: str
    label: int
    offset_bytes: int
    """Where its image begins in the tar."""
    length_bytes: int


class TarImages:
    """A source of `EncodedImages`: the images of tars, read where they lie."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Index the tars: reads their headers and labels, not the images.

        Raises:
            DataError: one is no plain tar, or a sample has no image or no label.
        """
        self._paths = paths
        samples = [list(index_tar(path)) for path in paths]
        self._tars = np.repeat(np.arange(len(paths)), [len(found) for found in samples])
        self.keys = [sample.key for found in samples for sample in found]
        numbers = [sample[1:] for found in samples for sample in found]
        self.labels: Labels
        self.labels, self._offsets, self._lengths = np.array(numbers, np.int64).reshape(-1, 3).T

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, index: int) -> str:
        """Its key, and in which tar."""
        return f"{self._paths[self._tars[index]]}: {self.keys[index]}"

    def read(self, index: int) -> bytes:
        """The image file inside the tar.

        Raises:
            DataError: the tar cannot be read, or was cut since.
        """
        path, length = self._paths[self._tars[index]], int(self._lengths[index])
        content = read_file(path, int(self._offsets[index]), length)
        if len(content) != length:
            raise DataError(f"{path} has become shorter: do not change data while it is in use")
        return content


def index_tar(path: str) -> Iterator[Sample]:
    """The samples of one tar in order; files that follow each other under one key are one.

    Raises:
        DataError: it is no plain tar, or a sample has no image, no label, or two of one kind.
    """
    with _open(path) as file:
        key, members = "", dict[str, Member]()
        for member in _members(path, file):
            found = _SPLIT.fullmatch(member.name)
            if not found or _META.match(member.name):
                continue
            if found[1] != key:
                if members:
                    yield _sample(path, file, key, members)
                key, members = found[1], {}
            suffix = found[2].lower()
            if suffix in members:
                raise DataError(f"{path} holds {key}.{suffix} twice: give each sample a key")
            members[suffix] = member
        if members:
            yield _sample(path, file, key, members)


def _members(path: str, file: BinaryIO) -> Iterator[Member]:
    """The regular files in a plain tar."""
    begin = file.read(8)
    for magic, kind in _COMPRESSED.items():
        if begin.startswith(magic):
            raise DataError(
                f"{path} is compressed ({kind}): unpack it to a plain .tar, which can be read at "
                "any place, and is hardly larger, since images are compressed themselves"
            )
    try:
        yield from (member for member in read_members(file) if member.is_plain)
    except tarfile.TarError as error:
        raise DataError(f"{path} is no tar, or damaged ({error}): get it again") from None


def _sample(path: str, file: BinaryIO, key: str, members: dict[str, Member]) -> Sample:
    image = next((members[suffix] for suffix in _IMAGES if suffix in members), None)
    label = next((suffix for suffix in ("cls", "json") if suffix in members), None)
    if image is None or label is None:
        missing = ", ".join(_IMAGES) if image is None else "cls, and no json"
        raise DataError(
            f"{path}: sample {key} has no {missing}, only {', '.join(sorted(members))}: its files "
            "must follow each other in the tar"
        )
    file.seek(members[label].offset_bytes)
    content = file.read(members[label].length_bytes)
    try:
        number = int(content) if label == "cls" else json.loads(content)["label"]
    except (ValueError, KeyError, TypeError):
        number = None
    if type(number) is not int or not 0 <= number < _LABELS_BELOW:
        raise DataError(
            f"{path}: {key}.{label} holds {content[:40]!r}, expected "
            + ("a class number from 0" if label == "cls" else 'a class number from 0 as "label"')
        )
    return Sample(key, number, image.offset_bytes, image.length_bytes)


def _open(path: str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): make it readable") from None
