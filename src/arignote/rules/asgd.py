"""ASGD: workers push what they have learned to a centre, and go on from what it has become.

After every tau-th step of a worker, and of it alone:

    D = x_i - b_i,    c <- c + s D,    x_i, b_i <- c

    x_i  a worker's weights                                    replica.parameters
    b_i  the centre as it was last given to this worker        self._given
    c    the centre                                            what is validated and saved
    tau  steps of a worker between its visits                  options.period
    s    1, or 1/(1 + visits of others since) with             options.staleness = divide

Downpour SGD (Dean et al., NIPS 2012): D is the sum of the worker's own updates, of any optimizer;
momentum stays its own. Staleness-aware: Zhang et al., arXiv 1511.05950, whose factor 1/staleness
counts from 1 as ours does. `compensation` is DC-ASGD (Zheng et al., arXiv 1609.08326, equation 10
and section 4), in which g = -D / eta stands for the gradient:

    c <- c + s D - eta lambda g*g*(c - b_i)
    adaptive: lambda / sqrt(MS + 1e-7) in lambda's place, MS <- m MS + (1 - m) g*g

    eta  the worker's learning rate      lambda  options.strength      m  options.decay

Theano-MPI's worker adds its own D to the centre that it is sent; ours is sent the sum. It
multiplied the learning rate by the number of workers; here `schedule.scaling` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from arignote.config.rule_options import ASGDOptions
from arignote.errors import UserError
from arignote.exchange.centre.base import Array, MeetsCentre
from arignote.exchange.jit import jit
from arignote.frameworks.base import Replica
from arignote.rules.base import Bring
from arignote.rules.visitor import Visitor

_EPSILON = 1e-7


@jit
def push_(payload: Array, centre: Array, share: float) -> None:
    """centre <- centre + share * payload, payload <- centre; shapes (n,), (n,), ()."""
    for i in range(payload.size):
        centre[i] += share * payload[i]
        payload[i] = centre[i]


@jit
def push_compensated_(
    payload: Array, centre: Array, kept: Array, rates: Array, share: float
) -> None:
    """As `push_`, less rates * payload^2 * (centre - kept); all of shape (n,), share ().

    `rates` is lambda / eta: with g = -payload / eta, eta lambda g^2 = (lambda / eta) payload^2.
    """
    for i in range(payload.size):
        move = share * payload[i]
        move -= rates[i] * payload[i] * payload[i] * (centre[i] - kept[i])
        centre[i] += move
        payload[i] = centre[i]


class Push:
    """What a visit does where the centre is."""

    def __init__(self, options: ASGDOptions) -> None:
        self._options = options
        self.rows = int(options.compensation == "adaptive")
        self.keeps = options.compensation != "none"
        self.loops: Sequence[Any] = (push_, push_compensated_) if self.keeps else (push_,)

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
        """See `MeetsCentre.meet`; numbers: the learning rate."""
        kind = centre.dtype.type
        share = kind(1 / (1 + staleness) if self._options.staleness == "divide" else 1)
        rate = numbers[0]
        if kept is None or not rate > 0:
            push_(payload, centre, share)
            return
        rates = centre * kind(0) + kind(self._options.strength / rate)
        if rows:
            squares, decay = rows[0], kind(self._options.decay)
            squares *= decay
            squares += (kind(1) - decay) * (payload / kind(rate)) ** 2
            rates /= (squares + kind(_EPSILON)) ** kind(0.5)
        push_compensated_(payload, centre, kept, rates, share)


class ASGD(Visitor):
    """Asynchronous SGD with a centre."""

    name = "asgd"
    options: ASGDOptions

    @staticmethod
    def meets(options: Any) -> MeetsCentre:
        """See `Visitor.meets`."""
        return Push(options)

    def start(self, replica: Replica) -> None:
        """As `Visitor.start`.

        Raises:
            UserError: delay compensation with a model that does not tell its learning rate.
        """
        if self.options.compensation != "none" and math.isnan(replica.learning_rate):
            raise UserError(
                "asgd:compensation needs the learning rate, which this model keeps to itself: use "
                "compensation=none"
            )
        super().start(replica)

    def adopt(self, replica: Replica) -> None:
        """See `Rule.adopt`."""
        super().adopt(replica)
        self._given = [self._host(vector).clone() for vector in replica.parameters]

    def update(self, replica: Replica, bring: Bring) -> None:
        """See `Visitor.update`."""
        self._rate = replica.learning_rate
        super().update(replica, bring)

    def visit(self, number: int, vector: torch.Tensor, bring: Bring) -> None:
        """See `Visitor.visit`."""
        own, given = vector.numpy(), self._given[number].numpy()

        def give(place: slice, payload: Array) -> None:
            payload[:] = own[place]
            payload -= given[place]

        def take(place: slice, centre: Array) -> None:
            own[place] = centre
            given[place] = centre

        self.make_visit(number, [self._rate], give, take)

    def state_dict(self) -> dict[str, Any]:
        """As `Visitor.state_dict`, with what this worker was last given."""
        return {**super().state_dict(), "given": self._given}

    def given(self, state: dict[str, Any]) -> Sequence[torch.Tensor]:
        """See `Visitor.given`."""
        for given, saved in zip(self._given, state["given"], strict=True):
            given.copy_(saved)
        return self._given

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Visitor.merge_state_dicts`; all workers were given the centre."""
        super().merge_state_dicts(states)
        for given, rows in zip(self._given, states[0].get("rows", ()), strict=False):
            given.copy_(rows[0])
