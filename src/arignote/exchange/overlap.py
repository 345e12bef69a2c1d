"""Exchange while backward still runs: buckets of a vector, by a thread beside it.

Backward computes the last layers' gradients first. The vector is cut into buckets at borders
of parameters; as soon as all gradients of the last bucket are there, a thread exchanges it,
then the next, always in this order, so that the workers' buckets meet.

The bad story of the order:
1. worker 0 did not use a layer in this batch, so its bucket never becomes ready,
2. its thread goes on with the next one, the others' threads wait in this one,
3. two different buckets are added up, or nobody ever comes.

So a bucket that is not ready holds up those behind it, until `finish` says that nothing more
is to come. The thread has a world of its own: its messages never meet the rule's.

On a device it has a stream of its own too, where a bucket waits for its own gradients and for no
later ones; what follows `finish` waits there for the buckets. The processes wait for neither.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from arignote.accelerator import Mark, SideStream
from arignote.errors import LostWorkerError, UserError
from arignote.exchange.exchange import Exchange, Shapes, share_of

BUCKET = 1 << 20
"""Elements of a bucket, at least (the vector's first one may have fewer)."""


@dataclass
class Bucket:
    """A part of a vector, at borders of parameters."""

    vector: int
    start: int
    stop: int
    members: frozenset[int]
    """Where its parameters begin."""
    arrived: set[int] = field(default_factory=set)


def buckets_of(shapes: Shapes, least: int = BUCKET) -> list[Bucket]:
    """The buckets of all vectors, in the order in which backward fills them."""
    found: list[Bucket] = []
    for vector, members in enumerate(shapes):
        starts = [0]
        for shape in members:
            starts.append(starts[-1] + shape.numel())
        stop = starts.pop()
        while starts:
            taken = [starts.pop()]
            while starts and stop - taken[-1] < least:
                taken.append(starts.pop())
            found.append(Bucket(vector, taken[-1], stop, frozenset(taken)))
            stop = taken[-1]
    return found


class Overlap:
    """Exchanges the buckets of `vectors` as their gradients become ready.

    Args:
        exchange: prepared for `vectors`; its state is shared.
        shapes: of the parameters in each vector.
    """

    def __init__(self, exchange: Exchange, vectors: Sequence[torch.Tensor], shapes: Shapes) -> None:
        self.what = "the exchange of step 1"
        """Names the occasion for an error; the rule keeps it up to date."""
        self._main = exchange.route.world
        self._world = self._main.split(0)
        self._world.patient = True
        self._exchange = exchange.twin(self._world)
        self._vectors = vectors
        self._buckets = buckets_of(shapes)
        self._by_member = {(b.vector, start): b for b in self._buckets for start in b.members}
        self._begun: float | None = None
        self._next = 0
        self._device = vectors[0].device if vectors else torch.device("cpu")
        self._stream = SideStream(self._device)
        self._jobs: queue.SimpleQueue[tuple[Bucket, Mark] | float | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[int, Mark] | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="exchange", daemon=True)
        self._thread.start()

    def begin(self, samples: float) -> None:
        """See `GradientListener.begin`.

        Raises:
            UserError: it was called already in this step.
        """
        if self._begun is not None:
            raise UserError(
                "begin(samples) was called twice in a step: call it once, before the last backward"
            )
        self._begun = samples
        self._jobs.put(float(samples))

    def ready(self, vector: int, start: int) -> None:
        """See `GradientListener.ready`.

        Raises:
            UserError: this gradient was ready already, so it may be on its way.
        """
        bucket = self._by_member[vector, start]
        if start in bucket.arrived:
            raise UserError(
                "backward ran twice after begin(samples): call begin before the last backward of "
                "a step only"
            )
        bucket.arrived.add(start)
        while self._next < len(self._buckets) and self._is_ready(self._buckets[self._next]):
            self._start_next()

    @staticmethod
    def _is_ready(bucket: Bucket) -> bool:
        return bucket.arrived == bucket.members

    def _start_next(self) -> None:
        # From where the last of its gradients was written: backward's stream, or the rule's.
        self._jobs.put((self._buckets[self._next], Mark(self._device)))
        self._next += 1

    def finish(self, samples: float) -> int:
        """All gradients of the step are there: wait until all buckets are exchanged.

        Returns:
            The bytes that this worker sent.

        Raises:
            UserError: `begin` was told of another number of samples.
            LostWorkerError: a worker did not come.
        """
        if self._begun is None:
            self.begin(samples)
        elif self._begun != samples:
            raise UserError(
                f"step got samples={samples:g} after begin(samples={self._begun:g}): give both "
                "the same number"
            )
        while self._next < len(self._buckets):
            self._start_next()
        self._begun, self._next = None, 0
        wire_bytes = 0
        for bucket in self._buckets:
            bucket.arrived.clear()
            wire_bytes += self._result()
        return wire_bytes

    def _result(self) -> int:
        """Of the next bucket; the thread has deadlines of its own, this one is a safeguard."""
        try:
            result = self._results.get(timeout=2 * self._main.timeout_seconds + 60)
        except queue.Empty:
            raise LostWorkerError(f"{self.what} did not end") from None
        if isinstance(result, BaseException):
            raise result
        wire_bytes, mark = result
        mark.precede()
        return wire_bytes

    def close(self) -> None:
        """End the thread; after the last `finish`."""
        self._jobs.put(None)
        self._thread.join()
        self._exchange.route.close()
        self._world.close()

    def _serve(self) -> None:
        """The thread: rounds in the order in which they were asked for."""
        try:
            with self._stream.inside():
                self._work()
        except BaseException as error:
            self._results.put(error)

    def _work(self) -> None:
        weight: float | None = None
        while True:
            job = self._jobs.get()
            if job is None:
                return
            self._world.timeout_seconds = self._main.timeout_seconds
            if isinstance(job, float):
                weight = self._weight(job)
                continue
            bucket, mark = job
            mark.precede()
            wire_bytes = self._round(bucket, weight)
            self._results.put((wire_bytes, Mark(self._device)))

    def _weight(self, samples: float) -> float | None:
        """As the rule's roll call finds it, but while backward runs."""
        total, squares = self._world.meet([samples, samples**2], self.what).tolist()
        return share_of(samples, total, squares, self._world.size)

    def _round(self, bucket: Bucket, weight: float | None) -> int:
        if self._exchange.route.needs_meeting:
            self._world.meet([], self.what)
        part = self._vectors[bucket.vector][bucket.start : bucket.stop]
        return self._exchange.mean_(part, weight=weight, what=self.what)
