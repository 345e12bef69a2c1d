"""Batches that loaders make, on the device: the next is copied there while one is trained on.

loaders   make i + 2 ...
copies    i + 1, from its slot of the loaders' memory
trainer   i, on the device; its slot was given back when its copy was done
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice

from arignote.data.base import Batch
from arignote.data.sharding import Indices
from arignote.loading.pool import Pool, Want
from arignote.trainer.device_copy import Copier, Copy
from arignote.trainer.feed import Feed, LoadedFeed, LoadingFacts, Upcoming, as_batch


class CopiedFeed(Feed):
    """As `LoadedFeed`, and then copied."""

    def __init__(self, pool: Pool, copier: Copier) -> None:
        self._pool, self._copier = pool, copier
        self._loaded = LoadedFeed(pool)
        self._copies: deque[Copy] = deque()
        """Whose slots are not given back yet, in the order in which they were taken."""
        self._next: tuple[Want, Copy] | None = None
        """Begun before it was asked for."""

    @property
    def facts(self) -> LoadingFacts:
        """See `Feed.facts`."""
        return self._loaded.facts

    def train(self, epoch: int, indices: Indices) -> Batch:
        """See `Feed.train`."""
        want = Want("train", epoch, indices)
        begun, self._next = self._next, None
        if begun is not None and begun[0].key == want.key:
            return begun[1].use()
        # Loaders may need all of their memory to make it.
        self._wait()
        return self._begin(want).use()

    def order(self, upcoming: Upcoming) -> None:
        """See `Feed.order`; what comes next is copied already, if it is made."""
        while self._copies and self._copies[0].done():
            self._give_back()
        ahead = list(islice(upcoming, self._pool.most_batches))
        first = Want("train", *ahead[0]) if ahead else None
        if first is not None and self._pool.made(first):
            self._next = (first, self._begin(first))
            # Nobody is to make it again.
            del ahead[0]
        self._loaded.order(ahead)

    def validation(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """See `Feed.validation`."""
        self._wait()
        try:
            for batch in self._loaded.validation(batches):
                copy = self._copier.begin(batch)
                try:
                    yield copy.use()
                finally:
                    copy.wait()
        finally:
            # The last one; whoever asks may stop early.
            self._pool.release()

    def close(self) -> None:
        """See `Feed.close`."""
        self._wait()
        self._copier.close()
        self._loaded.close()

    def _begin(self, want: Want) -> Copy:
        copy = self._copier.begin(as_batch(self._pool.take(want)))
        self._copies.append(copy)
        return copy

    def _wait(self) -> None:
        """Until all slots are given back."""
        while self._copies:
            self._copies[0].wait()
            self._give_back()

    def _give_back(self) -> None:
        self._copies.popleft()
        self._pool.release()
