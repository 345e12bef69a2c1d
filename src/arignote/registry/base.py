"""What a registry is: for each name the place that implements it, and one line about it."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arignote.errors import UserError, unknown


@dataclass(frozen=True)
class Entry:
    """One member of a family: `target` is `package.module:attribute`."""

    name: str
    target: str
    summary: str
    in_folder: bool = False
    """Of a data set: whether its spec names a folder."""
    in_file: bool = False
    """Of a data set: whether its spec names a file."""
    reads_samples: bool = False
    """Of a data set: whether a sample is read once it is asked for, which loaders do ahead."""
    in_files: bool = False
    """Of a data set: whether its spec names files by a pattern, or a folder."""
    parameters: int = 0
    """Of a model: how many it has on inputs of its own kind (of a GAN: how many are exchanged)."""
    input: str = ""
    """Of a model: that kind, such as `3x224x224, 1000`: a sample's shape, and how many classes."""
    paper: str = ""
    """Of a model: who described it, `Krizhevsky 2012` or an arXiv number; empty: we."""


class Registry:
    """The members of one family, in the order in which they are shown to users."""

    def __init__(self, kind: str, *entries: Entry) -> None:
        self.kind = kind
        self._entries = {entry.name: entry for entry in entries}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def entry(self, name: str) -> Entry:
        """The entry called `name`.

        Raises:
            UserError: there is none; the message names the nearest and all known names.
        """
        if name not in self._entries:
            raise UserError(unknown(self.kind, name, self._entries))
        return self._entries[name]

    def load(self, name: str) -> Any:
        """Import and return what implements `name`."""
        module, _, attribute = self.entry(name).target.partition(":")
        return getattr(importlib.import_module(module), attribute)
