"""Who trains on which sample: nothing lost, nothing doubled, the same for all worker counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arignote.data import sharding

WORKERS = (1, 2, 3, 4, 7)
SIZES = (1, 5, 64, 1437)
BATCH_SIZES = (1, 3, 32)


def steps_of(order, *, consumed, batch_size, workers):
    """All workers' batches of each step until the epoch's end: a list of lists."""
    steps = []
    while consumed < len(order):
        step = [
            sharding.worker_batch(
                order, consumed=consumed, batch_size=batch_size, rank=rank, workers=workers
            )
            for rank in range(workers)
        ]
        steps.append(step)
        consumed += sum(len(batch) for batch in step)
    return steps


def flat(steps):
    return np.concatenate([np.concatenate(step) for step in steps])


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_every_sample_exactly_once(workers, size, batch_size):
    order = sharding.epoch_order(size, seed=3, epoch=1)
    steps = steps_of(order, consumed=0, batch_size=batch_size, workers=workers)
    assert sorted(flat(steps)) == list(range(size))
    assert len(steps) == sharding.steps_left(
        size, consumed=0, batch_size=batch_size, workers=workers
    )


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch_size", BATCH_SIZES)
def test_workers_see_together_what_one_worker_sees(workers, size, batch_size):
    order = sharding.epoch_order(size, seed=0, epoch=0)
    many = steps_of(order, consumed=0, batch_size=batch_size, workers=workers)
    one = steps_of(order, consumed=0, batch_size=batch_size * workers, workers=1)
    assert len(many) == len(one)
    for together, (alone,) in zip(many, one, strict=True):
        np.testing.assert_array_equal(np.concatenate(together), alone)


@settings(deadline=None)  # a busy machine is no failure
@given(
    size=st.integers(1, 300),
    batch_size=st.integers(1, 40),
    before=st.integers(1, 8),
    after=st.integers(1, 8),
    done=st.integers(0, 20),
)
def test_resuming_with_other_workers_yields_the_remaining_samples(
    size, batch_size, before, after, done
):
    order = sharding.epoch_order(size, seed=1, epoch=2)
    first = steps_of(order, consumed=0, batch_size=batch_size, workers=before)[:done]
    consumed = sum(len(batch) for step in first for batch in step)
    rest = steps_of(order, consumed=consumed, batch_size=batch_size, workers=after)
    seen = [sample for step in first + rest for batch in step for sample in batch]
    assert sorted(seen) == list(range(size))
    assert len(rest) == sharding.steps_left(
        size, consumed=consumed, batch_size=batch_size, workers=after
    )


@settings(deadline=None)  # a busy machine is no failure
@given(count=st.integers(0, 500), workers=st.integers(1, 20))
def test_worker_slices_are_contiguous_and_differ_by_at_most_one(count, workers):
    slices = [sharding.worker_slice(count, rank=rank, workers=workers) for rank in range(workers)]
    assert [0, *(part.stop for part in slices)] == [*(part.start for part in slices), count]
    lengths = [part.stop - part.start for part in slices]
    assert max(lengths) - min(lengths) <= 1
    assert lengths == sorted(lengths, reverse=True)


@settings(deadline=None)  # a busy machine is no failure
@given(extra=st.integers(0, 400), batch_size=st.integers(1, 40), workers=st.integers(1, 8))
def test_never_empty_batches(extra, batch_size, workers):
    order = sharding.epoch_order(workers + extra, seed=5, epoch=0)
    ranks = [
        sharding.never_empty_batches(order, batch_size=batch_size, rank=rank, workers=workers)
        for rank in range(workers)
    ]
    assert len({len(batches) for batches in ranks}) == 1
    assert all(len(batch) for batches in ranks for batch in batches)
    seen = np.concatenate([batch for batches in ranks for batch in batches])
    assert sorted(seen) == list(range(workers + extra))


def test_the_order_depends_on_seed_and_epoch_alone():
    order = sharding.epoch_order(100, seed=1, epoch=1)
    np.testing.assert_array_equal(order, sharding.epoch_order(100, seed=1, epoch=1))
    assert order.dtype == np.int64
    assert not np.array_equal(order, sharding.epoch_order(100, seed=1, epoch=2))
    assert not np.array_equal(order, sharding.epoch_order(100, seed=2, epoch=1))
