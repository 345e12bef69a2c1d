"""What `bench loader` times: each makes some batches, from nothing ordered to the last one taken.

All load the same samples in the same order, if they make as many batches. A batch counts once
its consumer has read from every page of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from arignote.bench.loader_plan import Source
from arignote.bench.torch_folder import Batches, TorchFolder, data_loader
from arignote.config.load import resolve
from arignote.config.settings import Settings
from arignote.config.spec import parse_spec
from arignote.data.base import Dataset
from arignote.data.class_folders import IMAGES, labels, paths
from arignote.data.open import open_data
from arignote.data.sharding import Indices
from arignote.errors import ArignoteError
from arignote.loading.pool import Pool
from arignote.loading.process import ServerProcess
from arignote.loading.server import describe
from arignote.loading.shapes import shapes_of
from arignote.registry import DATA
from arignote.trainer.feed import LoadedFeed

_PAGE_NUMBERS = 4096 // 4
"""float32 numbers of a page of memory."""


class Entrant(Protocol):
    """Loads batches."""

    name: str
    loaders: int

    def turn(self, batches: Sequence[Indices]) -> float:
        """Load them all; seconds that it took."""

    def close(self) -> None:
        """No process is left when this returns."""


class OurLoaders:
    """Loaders as a worker of `arignote train` has them, up to tensors of normalised float32."""

    def __init__(self, name: str, source: Source, *, loaders: int, batch_size: int) -> None:
        self.name, self.loaders = name, loaders
        server = ServerProcess()
        try:
            dataset = _open(source)
            settings = _settings(source)
            self._pool = Pool(
                server,
                describe(settings, dataset, own_data=False),
                shapes_of(dataset),
                loaders=loaders,
                samples=batch_size,
                ahead_bytes=settings.loading.ahead_mib * 2**20,
                timeout_seconds=settings.loading.timeout_seconds,
                seed=0,
                worker=0,
            )
        except BaseException:
            server.close()
            raise
        self._feed = LoadedFeed(self._pool)
        self._epoch = 0

    @property
    def ahead_bytes(self) -> int:
        """Memory for batches."""
        return self._pool.memory_bytes

    def turn(self, batches: Sequence[Indices]) -> float:
        """See `Entrant.turn`."""
        begun = time.perf_counter()
        for place in range(len(batches)):
            self.one(batches[place:])
        return time.perf_counter() - begun

    def one(self, batches: Sequence[Indices]) -> None:
        """Take the first of them; the others come next."""
        # Each batch an epoch of its own: the same samples are never ordered twice.
        epoch, self._epoch = self._epoch, self._epoch + 1
        batch = self._feed.train(epoch, batches[0])
        self._feed.order((epoch + n, indices) for n, indices in enumerate(batches[1:], 1))
        touch(batch.inputs)

    def close(self) -> None:
        """See `Entrant.close`."""
        self._feed.close()


class TorchLoaders:
    """torch.utils.data.DataLoader."""

    name = "torch"

    def __init__(
        self, folder: Path, size: int, known: dict[str, Any], *, loaders: int, mirror: bool = True
    ) -> None:
        train, _ = IMAGES.list_splits(folder)
        numbers = labels(train, tuple(train)).tolist()
        mean, deviation = known["mean"], known["deviation"]
        dataset = TorchFolder(paths(train), numbers, size, mean, deviation, mirror=mirror)
        self.loaders = loaders
        self._batches = Batches()
        self._batch_bytes = 0
        self._loader = data_loader(dataset, self._batches, loaders)

    @property
    def ahead_bytes(self) -> int:
        """Memory for batches."""
        return (self._loader.prefetch_factor or 0) * self.loaders * self._batch_bytes

    def turn(self, batches: Sequence[Indices]) -> float:
        """See `Entrant.turn`."""
        begun = time.perf_counter()
        self.begin(batches)
        for _ in batches:
            self.one()
        seconds = time.perf_counter() - begun
        # Its epoch ends when it is asked for more.
        assert next(self._iterator, None) is None
        return seconds

    def begin(self, batches: Sequence[Indices]) -> None:
        """The batches that `one` will take, one after the other."""
        self._batches.batches = [indices.tolist() for indices in batches]
        self._iterator = iter(self._loader)

    def one(self) -> None:
        """Take the next batch."""
        inputs, _ = next(self._iterator)
        self._batch_bytes = inputs.nbytes
        touch(inputs)

    def close(self) -> None:
        """See `Entrant.close`."""
        # Workers are told to leave when nobody has the iterator any more.
        del self._iterator, self._loader


@dataclass
class OneCore:
    """A process pinned to one core, that makes batches of bytes as a loader makes them.

    See `bench.loader_core`; nobody takes its batches, and its own clock is read.
    """

    name: str
    source: Source
    batch_size: int
    loaders: int = 1
    _process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        core = max(os.sched_getaffinity(0))
        given = {"source": asdict(self.source), "batch_size": self.batch_size, "core": core}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "arignote.bench.loader_core", json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self, batches: Sequence[Indices]) -> float:
        """See `Entrant.turn`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        orders = json.dumps([indices.tolist() for indices in batches])
        # Where it is gone, it gives no answer.
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{orders}\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ArignoteError(f"the process that loads {self.name} ended: it said why above")
        return float(answer)

    def close(self) -> None:
        """See `Entrant.close`."""
        self._process.communicate()


class Draw:
    """Which samples come next: all in random order, then all in another."""

    def __init__(self, images: int, batch_size: int) -> None:
        self._images, self._batch_size = images, batch_size
        self._random = np.random.default_rng(0)
        self._left = np.empty(0, np.int64)

    def batches(self, count: int) -> list[Indices]:
        """The next `count` batches."""
        while len(self._left) < count * self._batch_size:
            self._left = np.concatenate([self._left, self._random.permutation(self._images)])
        taken, self._left = np.split(self._left, [count * self._batch_size])
        return list(taken.reshape(count, self._batch_size))


def touch(inputs: torch.Tensor) -> float:
    """Read one number of each page, as whoever trains on a batch has it brought to memory."""
    return float(inputs.reshape(-1)[::_PAGE_NUMBERS].sum())


def _open(source: Source) -> Dataset:
    if source.known is None:
        return open_data(source.spec, source.augment)
    spec = parse_spec(source.spec)
    kind: type[Dataset] = DATA.load(spec.name)
    return kind.open_again(spec, augment=source.augment, known=source.known)


def _settings(source: Source) -> Settings:
    given = {"run": {"data": source.spec}, "train": {"augment": source.augment}}
    return resolve([("", given)])
