"""EASGD: workers and a centre draw each other nearer, as by a spring.

After every tau-th step of a worker, and of it alone:

    d = x_i - c,    x_i <- x_i - alpha d,    c <- c + beta d          (from the same old values)

    x_i    a worker's weights                                  replica.parameters
    c      the centre                                          what is validated and saved
    tau    steps of a worker between its visits                options.period
    alpha  how far the worker moves                            options.alpha
    beta   how far the centre moves; alpha where not given     options.server_alpha

Zhang, Choromanska, LeCun, arXiv 1412.6651, algorithm 1. With alpha = beta the sum x_i + c stays
what it was. `easgd-sync` has all of them visit together.
`momentum` (EAMSGD, algorithm 2) takes Nesterov's step around an optimizer without memory of its
own: v <- delta v - eta g(x + delta v), x <- x + v. The replica holds y = x + delta v, where the
gradient is taken; then y <- (y - eta g) + delta v.

Theano-MPI's alpha = 0.5 and tau = 10 are the defaults; the paper's alpha is 0.9/n. It lowered its
server's alpha at fixed epochs, we by `server_decay` every epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from arignote.config.rule_options import EASGDOptions
from arignote.exchange.centre.base import Array, MeetsCentre
from arignote.exchange.jit import jit, jit_measure
from arignote.frameworks.base import Replica
from arignote.rules.alone import step_alone
from arignote.rules.base import Bring
from arignote.rules.elastic import remarks_on_alpha, server_rate
from arignote.rules.visitor import Visitor

_CHUNK_ELEMENTS = 2048
"""Small enough for the innermost cache, where what was just written is read again."""


@jit
def difference_(payload: Array, centre: Array) -> None:
    """payload <- payload - centre; both of shape (n,)."""
    for i in range(payload.size):
        payload[i] -= centre[i]


@jit
def move_(vector: Array, difference: Array, rate: float) -> None:
    """vector <- vector + rate * difference; all of one dtype, shapes (n,), (n,), ()."""
    for i in range(vector.size):
        vector[i] += rate * difference[i]


@jit
def meet_(payload: Array, centre: Array, rate: float) -> None:
    """`difference_`, then `move_` of the centre by it, in one pass."""
    for i in range(payload.size):
        payload[i] -= centre[i]
        centre[i] += rate * payload[i]


@jit_measure
def square(vector: Array) -> Any:
    """The sum of the squares of a few numbers; shape (n,)."""
    total = vector[0] * vector[0]
    for i in range(1, vector.size):
        total += vector[i] * vector[i]
    return total


@jit
def take_(own: Array, difference: Array, rate: float) -> tuple[float, float]:
    """`move_` of `own`; the squares of the difference and of what `own` has become."""
    apart, length = 0.0, 0.0
    for start in range(0, own.size, _CHUNK_ELEMENTS):
        x, d = own[start : start + _CHUNK_ELEMENTS], difference[start : start + _CHUNK_ELEMENTS]
        move_(x, d, rate)
        apart += square(d)
        length += square(x)
    return apart, length


@jit
def visit_(
    own: Array, centre: Array, own_rate: float, centre_rate: float, room: Array
) -> tuple[float, float]:
    """All of a visit in one pass, with the bits of `meet_` and `take_`, and what `take_` returns.

    Args:
        own, centre: shape (n,).
        room: for a few differences, shape (_CHUNK_ELEMENTS,).
    """
    apart, length = 0.0, 0.0
    for start in range(0, own.size, room.size):
        x, c = own[start : start + room.size], centre[start : start + room.size]
        d = room[: x.size]
        for i in range(x.size):
            d[i] = x[i] - c[i]
            c[i] += centre_rate * d[i]
            x[i] += own_rate * d[i]
        apart += square(d)
        length += square(x)
    return apart, length


class Elastic:
    """What a visit does where the centre is."""

    rows = 0
    keeps = False
    loops: Sequence[Any] = (meet_, difference_, move_, square, take_, visit_)

    def meet(
        self,
        payload: Array,
        centre: Array,
        rows: Sequence[Array],
        kept: Array | None,
        numbers: Sequence[float],
        staleness: int,
        through: Callable[[Array], None] | None,
    ) -> None:
        """See `MeetsCentre.meet`; numbers: beta. The centre moves by what the worker will see."""
        rate = centre.dtype.type(numbers[0])
        if through is None:
            meet_(payload, centre, rate)
            return
        difference_(payload, centre)
        through(payload)
        move_(centre, payload, rate)


class NesterovAlone:
    """EAMSGD's momentum around an optimizer that has none; changes only the replica.

    y <- (y - eta g) + delta v, where v <- delta v + ((y - eta g) - y)
    """

    def __init__(self, replica: Replica, momentum: float) -> None:
        self.momentum = momentum
        self.velocities = [torch.zeros_like(vector) for vector in replica.parameters]
        self._before = [torch.empty_like(vector) for vector in replica.parameters]

    def note(self, replica: Replica) -> None:
        """Just before the optimizer's step."""
        for before, vector in zip(self._before, replica.parameters, strict=True):
            before.copy_(vector)

    def add(self, replica: Replica) -> None:
        """Just after it."""
        for v, before, vector in zip(
            self.velocities, self._before, replica.parameters, strict=True
        ):
            v.mul_(self.momentum).add_(vector).sub_(before)
            vector.add_(v, alpha=self.momentum)


class EASGD(Visitor):
    """Elastic averaging with a centre that every worker visits when it is its turn."""

    name = "easgd"
    options: EASGDOptions
    _nesterov: NesterovAlone | None = None

    @staticmethod
    def meets(options: Any) -> MeetsCentre:
        """See `Visitor.meets`."""
        return Elastic()

    def start(self, replica: Replica) -> None:
        """See `Rule.start`."""
        super().start(replica)
        if self.options.momentum:
            self._nesterov = NesterovAlone(replica, self.options.momentum)
        self.remarks += remarks_on_alpha(self.options, self.world.size, together=False)

    def update(self, replica: Replica, bring: Bring) -> None:
        """See `Visitor.update`."""
        if self._nesterov is None:
            step_alone(self, replica, bring)
            return
        self._nesterov.note(replica)
        step_alone(self, replica, bring)
        if bring.samples:
            self._nesterov.add(replica)
        self.recorder.end("calc")

    def visit(self, number: int, vector: torch.Tensor, bring: Bring) -> None:
        """See `Visitor.visit`."""
        own = vector.numpy()
        lead = None if self._nesterov is None else self._nesterov.velocities[number].cpu()
        momentum = self.options.momentum
        alpha = own.dtype.type(-self.options.alpha)
        beta = server_rate(self.options, bring, default=self.options.alpha)
        room = np.empty(_CHUNK_ELEMENTS, dtype=own.dtype)
        squares = np.zeros(2)

        def give(place: slice, payload: Array) -> None:
            payload[:] = own[place]
            if lead is not None:
                # The spring is tied to x, the replica is at y = x + delta v.
                payload -= momentum * lead[place].to(vector.dtype).numpy()

        def take(place: slice, difference: Array) -> None:
            squares[:] += take_(own[place], difference, alpha)

        def at_once(place: slice, centre: Array) -> None:
            squares[:] += visit_(own[place], centre, alpha, own.dtype.type(beta), room)

        if lead is None:
            self.make_visit(number, [beta], give, take, payload=own, at_once=at_once)
        else:
            self.make_visit(number, [beta], give, take)
        if squares[1] > 0:
            self.recorder.note("consensus_distance", math.sqrt(squares[0] / squares[1]))

    def state_dict(self) -> dict[str, Any]:
        """As `Visitor.state_dict`, with the momentum."""
        own = {} if self._nesterov is None else {"velocities": self._nesterov.velocities}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Visitor.load_state_dict`."""
        super().load_state_dict(state)
        if self._nesterov is not None:
            for velocity, saved in zip(
                self._nesterov.velocities, state.get("velocities", ()), strict=False
            ):
                velocity.copy_(saved)
