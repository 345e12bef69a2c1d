"""Streaming DiLoCo: the model in fragments, each with rounds of its own, merged late.

After step t of all workers, for the fragment f for which (t + floor(f H / F)) mod H = 0:

    delta_f <- sum_j n_j (theta_old_f - x_j_f) / sum_j n_j        begun at t, in the background

and after step t + tau, with v and the outer step of `diloco`:

    v_f     <- mu v_f + delta_f
    theta_f = theta_old_f <- theta_old_f - eta (delta_f + mu v_f)
    x_i_f   <- (1 - a) theta_f + a x_i_f

    x_i      a worker's weights                            replica.parameters
    F, H     fragments; steps between rounds of one        options.fragments, options.period
    tau, a   steps of delay; share of the own weights      options.delay, options.own
    n_i      its samples since the last round of f
    eta, mu  outer learning rate, Nesterov momentum        options.outer_learning_rate, _momentum

Douillard et al., arXiv 2501.18512. So the line carries a small part at a time, while the workers
compute. With F = 1, tau = 0 and a = 0 it is `diloco`, bit for bit. We differ: workers with more
samples weigh more, any codec carries the changes (there: 4 bits), and fragments are slices of the
flat vector, cut between tensors where one ends nearby, else through them.

What is on its way at a checkpoint is waited for and saved, and merged when it is due. What is on
its way at the end is waited for and dropped: the weights that are validated, saved and kept are
the same, and a resumed run merges it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch

from arignote.config.rule_options import StreamingDiLoCoOptions
from arignote.errors import UserError
from arignote.frameworks.base import Replica
from arignote.rules.outer import Background, Carrier, Foreground, Outer
from arignote.rules.periodic import Periodic


def due_fragment(step: int, *, period: int, fragments: int) -> int | None:
    """The fragment whose round follows `step`, at most one; None: no fragment's."""
    for fragment in range(fragments):
        if (step + fragment * period // fragments) % period == 0:
            return fragment
    return None


def cut_near_borders(shapes: Sequence[torch.Size], parts: int) -> list[slice]:
    """A vector of tensors of these `shapes` in `parts` slices of nearly equal length.

    A cut moves to the nearest end of a tensor, by a quarter of a slice at most.
    """
    ends = list(accumulate((shape.numel() for shape in shapes), initial=0))
    elements = ends[-1]
    cuts = [0]
    for part in range(1, parts):
        even = part * elements // parts
        nearest = min(ends, key=lambda end: abs(end - even))
        cuts.append(nearest if 4 * parts * abs(nearest - even) <= elements else even)
    return [slice(a, b) for a, b in pairwise([*cuts, elements])]


@dataclass
class Flight:
    """A fragment whose mean is on its way, or waits to be merged."""

    fragment: int
    due: int
    """After which step it is merged."""
    arrived: bool = False


class StreamingDiLoCo(Periodic):
    """DiLoCo by fragments."""

    options: StreamingDiLoCoOptions

    def start(self, replica: Replica) -> None:
        """As `Rule.start`; the weights that all begin with are the first theta_old.

        Raises:
            UserError: there are fewer parameters than fragments.
        """
        options = self.options
        cuts = [cut_near_borders(shapes, options.fragments) for shapes in replica.shapes]
        self._parts = list(zip(*cuts, strict=True))
        elements = max(vector.numel() for vector in replica.parameters)
        if elements < options.fragments:
            raise UserError(
                f"streaming-diloco:fragments={options.fragments} is more than the model has "
                f"parameters: use fragments={elements} or fewer"
            )
        rate, momentum = options.outer_learning_rate, options.outer_momentum
        self._outer = Outer(replica, self.exchange, rate=rate, momentum=momentum)
        super().start(replica)
        self.adopt(replica)
        self._since = [0.0] * options.fragments
        """This worker's samples from each fragment's last round to the last round of any."""
        self._flights: list[Flight] = []
        beside = options.delay and self.world.many_threads and self.world.size > 1
        self._carrier: Carrier = (Background if beside else Foreground)(self.exchange)

    def adopt(self, replica: Replica) -> None:
        """See `Rule.adopt`."""
        self._outer.begin(replica)

    def exchanged(self, replica: Replica) -> tuple[torch.Tensor, ...]:
        """The changes, of which fragments will come."""
        return self._outer.deltas

    def _due(self) -> int | None:
        options = self.options
        return due_fragment(self.steps, period=options.period, fragments=options.fragments)

    def is_due(self, replica: Replica) -> bool:
        """When a fragment is."""
        return self._due() is not None

    def samples_of_round(self) -> float:
        """Since the last round of the fragment that is due."""
        fragment = self._due()
        assert fragment is not None
        return self._since[fragment] + self._samples

    def round(self, replica: Replica, weight: float | None) -> None:
        """Send the fragment that is due; see `Periodic.round`."""
        fragment = self._due()
        assert fragment is not None
        self._since = [samples + self._samples for samples in self._since]
        self._since[fragment] = 0.0
        part, what = self._parts[fragment], f"the round of step {self.steps}"
        self._outer.take_change(replica, part)
        self._carrier.begin(partial(self._outer.average, part, weight, what))
        self._flights.append(Flight(fragment, self.steps + self.options.delay))
        self.settle(replica)

    def settle(self, replica: Replica) -> None:
        """Merge what is due."""
        for flight in [flight for flight in self._flights if flight.due <= self.steps]:
            self._await(flight)
            self._outer.merge(replica, self._parts[flight.fragment], own=self.options.own)
            self._flights.remove(flight)
            self.recorder.end("comm")

    def _await(self, flight: Flight) -> None:
        """Wait for its mean, as all before it have been waited for."""
        if not flight.arrived:
            self.recorder.sent(self._carrier.end())
            flight.arrived = True

    def finish(self, replica: Replica) -> None:
        """As `Rule.finish`; what is still on its way is dropped (see the top of this file)."""
        for flight in self._flights:
            self._await(flight)
        self._flights.clear()
        super().finish(replica)
        self._carrier.close()

    def _schedule(self) -> list[int]:
        return [self.options.fragments, self.options.period, self.options.delay]

    def state_dict(self) -> dict[str, Any]:
        """As `Rule.state_dict`, with what is on its way; collective, waits for it."""
        for flight in self._flights:
            self._await(flight)
        flights = [
            {
                "fragment": flight.fragment,
                "due": flight.due,
                "means": [
                    delta[cut]
                    for delta, cut in zip(
                        self._outer.deltas, self._parts[flight.fragment], strict=True
                    )
                ],
            }
            for flight in self._flights
        ]
        return {
            **super().state_dict(),
            **self._outer.state_dict(),
            "schedule": self._schedule(),
            "since": self._since,
            "flights": flights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As `Rule.load_state_dict`; after `start`."""
        super().load_state_dict(state)
        self._load(state)
        if state["schedule"] == self._schedule():
            self._since = [float(samples) for samples in state["since"]]

    def merge_state_dicts(self, states: Sequence[dict[str, Any]]) -> None:
        """As `Rule.merge_state_dicts`; what is on its way is the same on all workers."""
        super().merge_state_dicts(states)
        self._load(states[0])

    def _load(self, state: dict[str, Any]) -> None:
        self._outer.load_state_dict(state)
        self._flights.clear()
        if state["schedule"] != self._schedule():
            # Other fragments: the changes are still in the weights, and go with the next round.
            return
        for saved in state["flights"]:
            flight = Flight(int(saved["fragment"]), int(saved["due"]), arrived=True)
            for delta, cut, mean in zip(
                self._outer.deltas, self._parts[flight.fragment], saved["means"], strict=True
            ):
                delta[cut].copy_(mean)
            self._flights.append(flight)
