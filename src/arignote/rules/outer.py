"""The outer optimizer of diloco and streaming-diloco: Nesterov's momentum over mean changes.

    v     <- mu v + delta
    theta <- theta_old - eta (delta + mu v)

As torch.optim.SGD(lr=eta, momentum=mu, nesterov=True) with delta for the gradient. Also here: where
the rounds are carried out that bring delta, at once or beside the steps that follow.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import torch

from arignote.errors import LostWorkerError
from arignote.exchange.exchange import Exchange
from arignote.frameworks.base import Replica

Part: TypeAlias = Sequence[slice]
"""A slice of each parameter vector."""
Job: TypeAlias = Callable[[Exchange], int]
"""A round over the given exchange; returns the bytes that this worker sent."""


def nesterov_(
    old: torch.Tensor,
    velocity: torch.Tensor,
    delta: torch.Tensor,
    *,
    rate: float,
    momentum: float,
) -> None:
    """The formulas above; `old` becomes theta, `delta` is used up."""
    velocity.mul_(momentum).add_(delta)
    old.add_(delta.add_(velocity, alpha=momentum), alpha=-rate)


class Outer:
    """theta_old, v and the deltas of a replica; to make one is collective.

    The deltas lie in memory of the exchange, so that they travel as they are.
    """

    def __init__(
        self, replica: Replica, exchange: Exchange, *, rate: float, momentum: float
    ) -> None:
        self.rate, self.momentum = rate, momentum
        vectors = replica.parameters
        allocate = exchange.route.allocate
        self.deltas = tuple(allocate(v.numel(), v.dtype, v.device) for v in vectors)
        self._old = [torch.empty_like(v) for v in vectors]
        self._velocity = [torch.zeros_like(v) for v in vectors]

    def begin(self, replica: Replica) -> None:
        """What all workers hold now is the first theta_old."""
        for old, vector in zip(self._old, replica.parameters, strict=True):
            old.copy_(vector)

    def take_change(self, replica: Replica, part: Part) -> None:
        """delta <- theta_old - this worker's weights."""
        for delta, old, vector, cut in zip(
            self.deltas, self._old, replica.parameters, part, strict=True
        ):
            torch.sub(old[cut], vector[cut], out=delta[cut])

    def average(self, part: Part, weight: float | None, what: str, exchange: Exchange) -> int:
        """delta <- its mean over the workers; the bytes that this worker sent."""
        if weight is None and exchange.route.needs_meeting:
            # Others may read a delta in place: not before it is there. (A weighted one is met
            # for in the exchange.)
            exchange.route.world.meet([], what)
        return sum(
            exchange.mean_(delta[cut], weight=weight, what=what)
            for delta, cut in zip(self.deltas, part, strict=True)
        )

    def merge(self, replica: Replica, part: Part, *, own: float = 0.0) -> None:
        """The outer step; the worker's weights become (1 - own) theta + own x_i."""
        for delta, old, velocity, vector, cut in zip(
            self.deltas, self._old, self._velocity, replica.parameters, part, strict=True
        ):
            nesterov_(old[cut], velocity[cut], delta[cut], rate=self.rate, momentum=self.momentum)
            if own:
                vector[cut].mul_(own).add_(old[cut], alpha=1 - own)
            else:
                vector[cut].copy_(old[cut])

    def state_dict(self) -> dict[str, Any]:
        """theta_old and v: the same on all workers."""
        return {"old": self._old, "velocity": self._velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`, of whatever worker."""
        for vector, saved in zip(
            (*self._old, *self._velocity), (*state["old"], *state["velocity"]), strict=True
        ):
            vector.copy_(saved)


class Carrier(Protocol):
    """Where rounds are carried out, in the order in which they are begun."""

    def begin(self, job: Job) -> None:
        """Begin a round."""

    def end(self) -> int:
        """Wait for the oldest round that was not yet waited for; the bytes that it sent."""

    def close(self) -> None:
        """After the last round; collective."""


class Foreground:
    """At once, over `exchange`."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._sent: queue.SimpleQueue[int] = queue.SimpleQueue()

    def begin(self, job: Job) -> None:
        """See `Carrier.begin`."""
        self._sent.put(job(self._exchange))

    def end(self) -> int:
        """See `Carrier.end`."""
        return self._sent.get_nowait()

    def close(self) -> None:
        """Nothing is open."""


class Background:
    """In a thread, over a twin of `exchange` in a world of its own; to make one is collective."""

    def __init__(self, exchange: Exchange) -> None:
        self._main = exchange.route.world
        self._world = self._main.split(0)
        self._world.patient = True
        self._exchange = exchange.twin(self._world)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="fragments", daemon=True)
        self._thread.start()

    def begin(self, job: Job) -> None:
        """See `Carrier.begin`."""
        self._jobs.put(job)

    def end(self) -> int:
        """See `Carrier.end`; the thread has deadlines of its own, this one is a safeguard.

        Raises:
            LostWorkerError: a worker did not come to the round.
        """
        try:
            result = self._results.get(timeout=2 * self._main.timeout_seconds + 60)
        except queue.Empty:
            raise LostWorkerError("the round of a fragment did not end") from None
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """See `Carrier.close`."""
        self._jobs.put(None)
        self._thread.join()
        self._exchange.route.close()
        self._world.close()

    def _serve(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                self._world.timeout_seconds = self._main.timeout_seconds
                self._results.put(job(self._exchange))
        except BaseException as error:
            self._results.put(error)
