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

import torch

from arignote.config.rule_options import EASGDOptions
from arignote.exchange.centre.base import Array, MeetsCentre
from arignote.exchange.jit import jit
from arignote.frameworks.base import Replica
from arignote.rules.alone import step_alone
from arignote.rules.base import Bring
from arignote.rules.elastic import remarks_on_alpha, server_rate
from arignote.rules.visitor import Visitor


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


class Elastic:
    """What a visit does where the centre is."""

    rows = 0
    keeps = False
    loops: Sequence[Any] = (difference_, move_)

    def meet(
        self,
        payload: Array,
        centre: Array,
        rows: Sequence[Array],
        kept: Array | None,
        numbers: Sequence[float],
        staleness: int,
        through: Callable[[Array], None],
    ) -> None:
        """See `MeetsCentre.meet`; numbers: beta. The centre moves by what the worker will see."""
        difference_(payload, centre)
        through(payload)
        move_(centre, payload, centre.dtype.type(numbers[0]))


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
        squares = [0.0, 0.0]

        def give(place: slice, payload: Array) -> None:
            payload[:] = own[place]
            if lead is not None:
                # The spring is tied to x, the replica is at y = x + delta v.
                payload -= momentum * lead[place].to(vector.dtype).numpy()

        def take(place: slice, difference: Array) -> None:
            move_(own[place], difference, alpha)
            squares[0] += float(difference @ difference)
            squares[1] += float(own[place] @ own[place])

        beta = server_rate(self.options, bring, default=self.options.alpha)
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
