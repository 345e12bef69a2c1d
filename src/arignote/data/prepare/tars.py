"""Where the images lie in a tar, so that they are read from it without unpacking it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from arignote.data.class_folders import IMAGES
from arignote.data.tar_headers import read_members
from arignote.errors import DataError


class Member(NamedTuple):
    """A file in a tar."""

    parts: tuple[str, ...]
    """Its path: ("train", "cat", "1.jpg")."""
    offset: int
    """Where its bytes begin in the tar."""
    size: int


def list_images(path: Path) -> list[Member]:
    """All images in a tar, by name; what begins with a dot is left alone.

    Of several members of one name, which tar -r and -u make, the last counts, as for tar itself.

    Raises:
        DataError: it cannot be read, is compressed or cut off, or has links among its images.
    """
    try:
        with path.open("rb") as file:
            return _images(_members(file, 0, path.stat().st_size, str(path)))
    except OSError as error:
        raise _unreadable(path, error) from None


def list_inner_images(path: Path) -> dict[str, list[Member]]:
    """The images in each of the tars that a tar is made of, by name; offsets are in `path`.

    The keys are the names of the inner tars without .tar.

    Raises:
        DataError: one of them cannot be read, is compressed or cut off.
    """
    found = {}
    try:
        with path.open("rb") as file:
            for outer in sorted(_members(file, 0, path.stat().st_size, str(path))):
                name, dot, suffix = outer.parts[-1].rpartition(".")
                if (dot, suffix) == (".", "tar"):
                    place = f"{path}: {outer.parts[-1]}"
                    inner = _members(file, outer.offset, outer.offset + outer.size, place)
                    found[name] = _images(inner)
    except OSError as error:
        raise _unreadable(path, error) from None
    return found


def _images(members: Iterable[Member]) -> list[Member]:
    """The images among them, by name, each name once."""
    return sorted({member.parts: member for member in members if _is_image(member)}.values())


def _is_image(member: Member) -> bool:
    return member.parts[-1].lower().endswith(IMAGES.suffixes)


def _members(file: BinaryIO, start: int, end: int, place: str) -> Iterator[Member]:
    """The files of the tar in bytes `start` ... `end` of `file`, in their order there."""
    try:
        for found in read_members(file, start, end, needs_mark=True):
            parts = PurePosixPath(found.name).parts
            if any(part.startswith(".") for part in parts):
                continue
            member = Member(parts, found.offset_bytes, found.length_bytes)
            if _is_image(member) and not found.is_plain:
                raise DataError(
                    f"{place}: {found.name} is a link or sparse: make the tar with "
                    "tar --dereference --hard-dereference"
                )
            yield member
    except tarfile.TarError as error:
        raise DataError(
            f"{place} is no whole, uncompressed tar ({error}): decompress it, or get it again"
        ) from None


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path} cannot be read ({error.strerror}): make it readable")
