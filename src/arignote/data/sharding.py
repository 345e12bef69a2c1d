"""Who trains on which sample when: pure functions, the same on every worker.

An epoch is a permutation of the samples, drawn from (seed, epoch) alone. Global batch k is
the next `batch_size * workers` samples of it, cut into one slice a worker. So n workers with
batch b see together exactly the samples that one worker with batch n*b sees, step by step;
no sample is lost or doubled; the last batch is merely shorter, and a worker's slice of it may
be empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Indices: TypeAlias = npt.NDArray[np.int64]
"""Sample indices, shape (N,)."""


def epoch_order(size: int, *, seed: int, epoch: int) -> Indices:
    """The permutation of range(size) for this epoch, shape (size,)."""
    return np.random.default_rng((seed, epoch)).permutation(size).astype(np.int64)


def steps_left(size: int, *, consumed: int, batch_size: int, workers: int) -> int:
    """Steps until the epoch is done, `consumed` of its samples being used already."""
    return -(-(size - consumed) // (batch_size * workers))


def worker_slice(count: int, *, rank: int, workers: int) -> slice:
    """Worker `rank`'s part of `count` things: parts differ by at most one, the first are longer.

    >>> [worker_slice(5, rank=r, workers=3) for r in range(3)]
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    share, longer = divmod(count, workers)
    start = rank * share + min(rank, longer)
    return slice(start, start + share + (rank < longer))


def shared_slice(count: int, *, rank: int, shares: Sequence[float]) -> slice:
    """Worker `rank`'s part of `count` things, where part r is `shares[r]` of them, rounded.

    >>> [shared_slice(10, rank=r, shares=[0.5, 0.25, 0.25]) for r in range(3)]
    [slice(0, 5, None), slice(5, 8, None), slice(8, 10, None)]
    """
    start, stop = (round(count * math.fsum(shares[:end])) for end in (rank, rank + 1))
    return slice(start, count if rank == len(shares) - 1 else stop)


def global_batch(order: Indices, *, consumed: int, batch_size: int, workers: int) -> Indices:
    """All workers' samples of the step that begins after `consumed` samples of the epoch."""
    return order[consumed : consumed + batch_size * workers]


def worker_batch(
    order: Indices, *, consumed: int, batch_size: int, rank: int, workers: int
) -> Indices:
    """Worker `rank`'s samples of that step, shape (<= batch_size,), possibly empty."""
    batch = global_batch(order, consumed=consumed, batch_size=batch_size, workers=workers)
    return batch[worker_slice(len(batch), rank=rank, workers=workers)]


def never_empty_batches(
    order: Indices, *, batch_size: int, rank: int, workers: int
) -> list[Indices]:
    """Worker `rank`'s batches of an epoch, none of them empty: for loops that users wrote.

    As `worker_batch`, but a last global batch of fewer samples than workers joins the one
    before it. Needs len(order) >= workers.
    """
    step = batch_size * workers
    starts = list(range(0, len(order), step))
    if len(starts) > 1 and len(order) - starts[-1] < workers:
        starts.pop()
    ends = [*starts[1:], len(order)]
    batches = []
    for start, end in zip(starts, ends, strict=True):
        batch = order[start:end]
        batches.append(batch[worker_slice(len(batch), rank=rank, workers=workers)])
    return batches
