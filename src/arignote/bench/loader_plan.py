"""What the parts of `bench loader` know: where the data is, and how it is opened. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arignote.bench.loader_request import STORED_SIZE, LoaderRequest
from arignote.data.shard_index import ShardIndex

_LEAST_ROUNDS, _MOST_ROUNDS = 3, 100
_MOST_STARTS = 5


@dataclass(frozen=True)
class Source:
    """A data set, as it is opened in each process."""

    spec: str
    augment: str
    known: dict[str, Any] | None
    """What `Dataset.known` gives; None: the data set finds it out, as when a run begins."""


@dataclass(frozen=True)
class Plan:
    """A request, and what was made ready for it."""

    request: LoaderRequest
    index: ShardIndex

    @property
    def folder(self) -> Path:
        """Of the image files."""
        return Path(self.request.folder, "images")

    @property
    def stored(self) -> Path:
        """Of the shards."""
        return Path(self.request.folder, "shards")

    @property
    def images(self) -> int:
        """How many are loaded."""
        return self.index.train.images

    @property
    def known(self) -> dict[str, Any]:
        """Mean and deviation for all, peers too: of all stored pixels."""
        mean, deviation = list(self.index.mean), list(self.index.deviation)
        return {"mean": mean, "deviation": deviation, "skipped": []}

    @property
    def shards(self) -> Source:
        """A random window of what is stored, mirrored; if it is all of it, only mirrored."""
        size = self.request.size
        augment = "crop+mirror" if size < STORED_SIZE else "mirror"
        return Source(f"shards:{self.stored},size={size}", augment, self.known)

    @property
    def imagefolder(self) -> Source:
        """The shorter side becomes `size`, the middle is kept, mirrored; decoded each time."""
        spec = f"imagefolder:{self.folder},size={self.request.size},keep=false"
        return Source(spec, "mirror", self.known)

    @property
    def rounds(self) -> int:
        """About a second a turn."""
        return min(max(int(self.request.seconds), _LEAST_ROUNDS), _MOST_ROUNDS)

    @property
    def turn_seconds(self) -> float:
        """What a turn aims at."""
        return self.request.seconds / self.rounds

    @property
    def starts(self) -> int:
        """How often each fresh process is started: it takes seconds."""
        return min(max(int(self.request.seconds), 1), _MOST_STARTS)
