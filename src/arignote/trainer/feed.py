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
from arignote.data.base import Batch, Dataset
from arignote.data.byte_images import fed_dataset
from arignote.data.sharding import Indices
from arignote.data.stages import STAGES, take_seconds
from arignote.loading.pool import Pool, Want, shapes_of
from arignote.loading.process import ServerProcess
from arignote.loading.server import describe
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
    def train(self, epoch: int, indices: Indices, upcoming: Upcoming) -> Batch:
        """Training samples `indices` (N >= 1,) of this epoch."""

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

    def train(self, epoch: int, indices: Indices, upcoming: Upcoming) -> Batch:
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

    def train(self, epoch: int, indices: Indices, upcoming: Upcoming) -> Batch:
        """See `Feed.train`."""
        ahead = (Want("train", *it) for it in islice(upcoming, self._pool.most_batches))
        return self._next([Want("train", epoch, indices), *ahead])

    def validation(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """See `Feed.validation`."""
        wants = [Want("validation", 0, indices) for indices in batches]
        try:
            for place in range(len(wants)):
                yield self._next(wants[place : place + self._pool.most_batches])
        finally:
            # Whoever asks may stop early.
            self._pool.keep_only("validation", [])

    def close(self) -> None:
        """See `Feed.close`."""
        self._pool.close()

    def _next(self, wants: Sequence[Want]) -> Batch:
        """The first of them; the others are ordered meanwhile."""
        pool = self._pool
        pool.release()
        # What was foreseen and does not come would keep its room for ever.
        pool.keep_only(wants[0].split, wants)
        for want in wants:
            if not pool.ask(want):
                break
        arrays = pool.take(wants[0])
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


def open_feed(
    settings: Settings,
    dataset: Dataset,
    server: ServerProcess | None,
    *,
    own_data: bool,
    samples: int,
    worker: int,
) -> Feed:
    """Loaders where they are wanted.

    Args:
        server: begun if the settings want loaders.
        own_data: the model's `data` opens the data set: then it has loaders only when told to.
        samples: the most that a batch has.
        worker: its rank.

    Raises:
        UserError: see `fed_dataset`.
    """
    fed = fed_dataset(dataset, settings)
    if server is None:
        return OwnFeed(fed, settings.run.seed)
    if own_data and settings.loading.loaders is None:
        server.close()
        return OwnFeed(fed, settings.run.seed)
    pool = Pool(
        server,
        describe(settings, dataset, own_data=own_data),
        shapes_of(fed),
        loaders=loader_count(settings),
        samples=samples,
        ahead_bytes=settings.loading.ahead_mib * 2**20,
        timeout_seconds=settings.loading.timeout_seconds,
        seed=settings.run.seed,
        worker=worker,
    )
    return LoadedFeed(pool)
