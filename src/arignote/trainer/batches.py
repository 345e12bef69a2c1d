"""Batches for a loop that a user already has."""

from __future__ import annotations

from collections.abc import Iterator

from arignote.comm.base import World
from arignote.comm.counter import Counter
from arignote.data.sharding import epoch_order, never_empty_batches
from arignote.errors import UserError


class Batches:
    """This worker's batches of sample indices: a `batch_sampler` for torch's DataLoader.

    Every iteration is an epoch of its own order; together the workers' batches hold each sample
    exactly once, and none is empty. All workers have the same number of batches; with an
    asynchronous rule instead each takes the next that nobody has, so `len` is only their mean.

    Args:
        counter: by which workers take turns, of these batches alone; None: they keep step.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        *,
        seed: int,
        world: World,
        counter: Counter | None = None,
    ) -> None:
        if samples < world.size:
            raise UserError(
                f"{world.size} workers but only {samples} samples: use at most {samples} workers"
            )
        if batch_size < 1:
            raise UserError(f"got batch_size {batch_size}, expected at least 1")
        self._samples, self._batch_size = samples, batch_size
        self._seed, self._world, self._counter = seed, world, counter
        self.epoch = 0

    def _lists(self, part: int) -> list[list[int]]:
        """The batches of this epoch that are part `part` of each step."""
        order = epoch_order(self._samples, seed=self._seed, epoch=self.epoch)
        own = never_empty_batches(
            order, batch_size=self._batch_size, rank=part, workers=self._world.size
        )
        return [batch.tolist() for batch in own]

    def __len__(self) -> int:
        return len(self._lists(self._world.rank))

    def __iter__(self) -> Iterator[list[int]]:
        if self._counter is None:
            yield from self._lists(self._world.rank)
        else:
            yield from self._taken(self._counter)
        self.epoch += 1

    def _taken(self, counter: Counter) -> Iterator[list[int]]:
        """The next batch of the epoch that nobody has taken, until there is none."""
        parts = [self._lists(part) for part in range(self._world.size)]
        in_epoch = len(parts) * len(parts[0])
        begin = self.epoch * in_epoch
        while (number := counter.take(begin + in_epoch, begin)) is not None:
            step, part = divmod(number - begin, len(parts))
            yield parts[part][step]
