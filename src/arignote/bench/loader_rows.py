"""What `bench loader` measures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from arignote.bench.rows import Measured


@dataclass(frozen=True)
class ImagesRow(Measured, kind="images"):
    """What was loaded."""

    images: int
    """Different ones."""
    made: bool
    """By the bench itself, from random numbers."""
    file_bytes: int
    """Of all files."""
    shard_bytes: int
    """Of all that was prepared from them."""
    size: int
    """Pixels a side of a sample."""


@dataclass(frozen=True)
class LoaderRow(Measured, kind="loader"):
    """Batches by the same loaders, turn after turn."""

    name: str
    loaders: int
    batch_size: int
    median_seconds: float
    """A batch, over the turns."""
    spread: tuple[float, float]
    """Lower and upper quartile, in seconds."""

    @property
    def images_per_second(self) -> float:
        """Of all loaders."""
        return self.batch_size / self.median_seconds

    def to_json(self) -> dict[str, Any]:
        """See `Measured.to_json`; with what follows from the fields."""
        return {**super().to_json(), "images_per_second": self.images_per_second}


@dataclass(frozen=True)
class FirstRow(Measured, kind="first"):
    """From nothing to the first batch, each time in a fresh process."""

    name: str
    loaders: int
    batch_size: int
    median_seconds: float
    spread: tuple[float, float]
    """Lower and upper quartile, in seconds."""


@dataclass(frozen=True)
class MemoryRow(Measured, kind="memory"):
    """What loaders need once they are at work; batches and mapped data are not counted."""

    name: str
    loaders: int
    batch_size: int
    each_bytes: int
    """Of the largest loader, what it shares with no other process."""
    all_bytes: int
    """Of all processes that are there for loading: where n share a page, 1/n of it each."""
    ahead_bytes: int
    """Batches that are made ahead."""


@dataclass(frozen=True)
class IndexRow(Measured, kind="index"):
    """A large set of shards, opened in a fresh process."""

    images: int
    shards: int
    median_seconds: float
    spread: tuple[float, float]
    """Lower and upper quartile, in seconds."""
    resident_bytes: int
    """By how much the process grew meanwhile."""
