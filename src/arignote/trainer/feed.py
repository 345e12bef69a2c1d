"""Where a worker's batches come from: it makes them itself, or its loaders do, ahead of time."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import torch

from arignote.config.settings import Settings
from arignote.config.spec import parse_spec
from arignote.data.arrays import Arrays
from arignote.data.base import Batch, Dataset, Split
from arignote.data.sharding import Indices
from arignote.data.stages import STAGES, take_seconds
from arignote.loading.pool import Pool, Want
from arignote.registry import DATA

_MOST_UNASKED = 4
"""Loaders that a worker gets without being told."""

Upcoming: TypeAlias = Iterable[tuple[int, Indices]]
"""(epoch, samples) of the batches after this one, as far as they can be foreseen."""


@dataclass(frozen=True)
class LoadingFacts:
    """What loading cost one worker."""

    loaders: int
    restarts: int
    seconds: dict[str, float]
    """By stage, of all loaders together, or of the worker itself."""


class Feed(ABC):
    """Batches for one worker; each stays as it is until the next is asked for."""

    @property
    @abstractmethod
    def facts(self) -> LoadingFacts:
        """So far."""

    @abstractmethod
    def train(self, epoch: int, indices: Indices) -> Batch:
        """Training samples `indices` (N >= 1,) of this epoch."""

    def order(self, upcoming: Upcoming) -> None:  # noqa: B027 (who makes its own needs none)
        """Have what is trained on next made meanwhile; told once the batch before is there.

        Not while the trainer waits for that one: the loader that gets an order may be woken on the
        trainer's own core, and what it computes there would count as waiting.
        """

    @abstractmethod
    def validation(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """One batch of validation samples after the other."""

    @abstractmethod
    def close(self) -> None:
        """No more batches are wanted."""


class OwnFeed(Feed):
    """The worker makes its batches when it needs them."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self._dataset = dataset
        self._seed = seed
        # What opening the data took does not count.
        take_seconds()
        self._seconds = dict.fromkeys(STAGES, 0.0)

    @property
    def facts(self) -> LoadingFacts:
        """See `Feed.facts`."""
        for stage, seconds in take_seconds().items():
            self._seconds[stage] += seconds
        return LoadingFacts(0, 0, dict(self._seconds))

    def train(self, epoch: int, indices: Indices) -> Batch:
        """See `Feed.train`."""
        return self._dataset.train_batch(indices, seed=self._seed, epoch=epoch)

    def validation(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """See `Feed.validation`."""
        return map(self._dataset.validation_batch, batches)

    def close(self) -> None:
        """Nothing is open."""


class LoadedFeed(Feed):
    """Loaders make the batches, as many ahead as their memory holds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @property
    def facts(self) -> LoadingFacts:
        """See `Feed.facts`."""
        loaders = self._pool.loaders
        return LoadingFacts(len(loaders), loaders.restarts, dict(loaders.seconds))

    def train(self, epoch: int, indices: Indices) -> Batch:
        """See `Feed.train`."""
        return self._take(Want("train", epoch, indices))

    def order(self, upcoming: Upcoming) -> None:
        """See `Feed.order`."""
        ahead = islice(upcoming, self._pool.most_batches)
        self._order("train", [Want("train", *it) for it in ahead])

    def validation(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """See `Feed.validation`."""
        wants = [Want("validation", 0, indices) for indices in batches]
        try:
            for place, want in enumerate(wants):
                batch = self._take(want)
                self._order("validation", wants[place + 1 : place + 1 + self._pool.most_batches])
                yield batch
        finally:
            # Whoever asks may stop early.
            self._pool.keep_only("validation", [])

    def close(self) -> None:
        """See `Feed.close`."""
        self._pool.close()

    def _take(self, want: Want) -> Batch:
        self._pool.release()
        return as_batch(self._pool.take(want))

    def _order(self, split: Split, wants: Sequence[Want]) -> None:
        # What was foreseen and does not come would keep its room for ever.
        self._pool.keep_only(split, wants)
        for want in wants:
            if not self._pool.ask(want):
                break


def as_batch(arrays: Arrays) -> Batch:
    """The same memory as tensors."""
    return Batch(torch.from_numpy(arrays.inputs), torch.from_numpy(arrays.targets))


def loader_count(settings: Settings) -> int:
    """Loaders of each worker, as far as the settings decide."""
    given = settings.loading.loaders
    if given is not None:
        return given
    if not settings.run.data or not DATA.entry(parse_spec(settings.run.data).name).reads_samples:
        return 0
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    return min(_MOST_UNASKED, threads or len(os.sched_getaffinity(0)))
