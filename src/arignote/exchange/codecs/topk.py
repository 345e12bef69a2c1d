"""topk: only the elements of largest magnitude; the rest waits until it has grown.

    v <- v + g                            v: residual
    send v at the k largest |v|,  v <- 0 there

and with momentum correction (m > 0), for which the optimizer needs no momentum of its own:

    u <- m u + g,  v <- v + u,  send v at the k largest |v|,  u, v <- 0 there

Top-k with error feedback (Stich et al. 2018, arXiv 1809.07599); DGC (Lin et al. 2018, arXiv
1712.01887). We differ: every slice sends its own share of k, so that no worker has to see the
whole vector; the choice is exact (a sampled threshold only narrows down what is sorted), ties go
to the lower index; DGC's clipping and warm-up of k are left to the user.

The mean of p workers' slices has at most p k elements that are not zero, and is sent exactly.
What takes no more bytes dense is sent dense. NaN and infinity are the largest of all, so they
are sent at once, and none is left behind in the residual.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from arignote.config.exchange_options import TopKOptions
from arignote.errors import UserError
from arignote.exchange.base import Codec
from arignote.exchange.jit import jit

SAMPLE = 4096
NOT_FINITE = np.int32(0x7F800000)


@jit
def magnitude(value: Any) -> Any:
    """The bits of |value| as int32: they order magnitudes, NaN above infinity above all."""
    return np.int32(np.float32(value).view(np.int32) & np.int32(0x7FFFFFFF))


@jit
def accumulate(
    gradient: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float32],
    velocity: npt.NDArray[np.float32],
    momentum: np.float32,
) -> None:
    """u <- m u + g, v <- v + u; v <- v + g where no velocity is kept."""
    if velocity.size == 0:
        for j in range(gradient.size):
            residual[j] += gradient[j]
        return
    for j in range(gradient.size):
        velocity[j] = momentum * velocity[j] + gradient[j]
        residual[j] += velocity[j]


@jit
def at_least(values: npt.NDArray[np.float32], low: np.int32) -> Any:
    """The indices of all `values` of magnitude `low` or more, ascending."""
    count = np.int32(0)
    for j in range(values.size):
        count = np.int32(count + np.int32(magnitude(values[j]) >= low))
    places = np.empty(count + 1, np.int32)
    found = 0
    for j in range(values.size):
        places[found] = j
        found += int(magnitude(values[j]) >= low)
    return places[:found]


@jit
def guess(values: npt.NDArray[np.float32], slots: int) -> Any:
    """A magnitude that, by a sample, a little more than `slots` elements reach."""
    step = max(1, values.size // SAMPLE)
    sample = np.empty(values.size // step, np.int32)
    for j in range(sample.size):
        sample[j] = magnitude(values[j * step])
    share = slots / values.size * sample.size
    rank = min(sample.size, int(share + 3 * np.sqrt(share) + 3))
    return np.partition(sample, sample.size - rank)[sample.size - rank]


@jit
def select(values: npt.NDArray[np.float32], slots: int) -> Any:
    """The indices of the `slots` largest magnitudes, ascending; fewer if the rest is zero."""
    low = max(guess(values, slots), np.int32(1))
    places = at_least(values, low)
    if places.size < slots:
        places = at_least(values, np.int32(1))
    if places.size <= slots:
        return places
    sizes = np.empty(places.size, np.int32)
    for i in range(places.size):
        sizes[i] = magnitude(values[places[i]])
    smallest = np.partition(sizes, sizes.size - slots)[sizes.size - slots]
    ties = slots
    for i in range(sizes.size):
        ties -= int(sizes[i] > smallest)
    kept = np.empty(slots, np.int32)
    found = 0
    for i in range(places.size):
        tied = sizes[i] == smallest
        if sizes[i] > smallest or (tied and ties > 0):
            kept[found] = places[i]
            found += 1
            ties -= int(tied)
    return kept


@jit
def take(residual: npt.NDArray[np.float32], velocity: npt.NDArray[np.float32], places: Any) -> Any:
    """The residual at `places`, where it (and the velocity) then is zero."""
    taken = np.empty(places.size, np.float32)
    broken = False
    for i in range(places.size):
        taken[i] = residual[places[i]]
        broken |= magnitude(taken[i]) >= NOT_FINITE
        residual[places[i]] = 0
        if velocity.size:
            velocity[places[i]] = 0
    if broken:
        for place in at_least(residual, NOT_FINITE):
            residual[place] = 0
            if velocity.size:
                velocity[place] = 0
    return taken


def write_pairs(places: Any, taken: Any, wire: torch.Tensor, elements: int) -> None:
    """The values `taken` from `places` of `elements`: dense, or `wire.numel() / 8` pairs.

    Pairs that are left over repeat what is at index 0.

    Raises:
        ValueError: there are more of them than pairs.
    """
    if wire.numel() == 4 * elements:
        dense = wire.numpy().view(np.float32)
        dense[:] = 0
        dense[places] = taken
        return
    slots = wire.numel() // 8
    if places.size > slots:
        raise ValueError(f"{places.size} elements that are not zero, in a wire for {slots}")
    indices, values = wire.numpy().view(np.int32).reshape(2, slots)
    indices[: places.size], indices[places.size :] = places, 0
    values = values.view(np.float32)
    at_zero = taken[0] if places.size and places[0] == 0 else 0
    values[: places.size], values[places.size :] = taken, at_zero


class TopK(Codec):
    """Eight bytes an element that is sent: an int32 index and a float32 value."""

    name = "topk"

    def __init__(self, options: TopKOptions) -> None:
        super().__init__(options)
        self._k = options.k
        self._momentum = options.momentum
        self._elements = 0
        self.worker_rows = 2 if options.momentum else 1  # type: ignore[misc]

    def check(self, elements: int) -> None:
        """Remember the size of the (largest) vector that a number of elements is a share of.

        Raises:
            UserError: k is more than that.
        """
        if self._k > elements > 0:
            raise UserError(
                f"topk:k={self._k:g} is more than the {elements} elements of a vector: give at "
                f"most {elements}, or a fraction below 1"
            )
        self._elements = max(self._elements, elements)

    def slots(self, elements: int) -> int:
        """How many of a slice's elements are sent."""
        share = self._k if self._k < 1 else self._k / (self._elements or elements or 1)
        # A product that rounding put just above a whole number is that number.
        return min(elements, max(1, math.ceil(share * elements * (1 - 1e-12))))

    def wire_bytes(self, elements: int) -> int:
        """Indices, then values; or all values."""
        return min(8 * self.slots(elements), 4 * elements)

    def mean_wire_bytes(self, elements: int, senders: int) -> int:
        """As many pairs as all senders together may have sent; or all values."""
        return min(8 * min(elements, self.slots(elements) * senders), 4 * elements)

    def encode(
        self, values: torch.Tensor, wire: torch.Tensor, state: torch.Tensor, seed: int
    ) -> None:
        """The largest of values + residual."""
        elements = values.numel()
        if not elements:
            return
        residual = state[0].numpy()
        velocity = state[1].numpy() if self._momentum else residual[:0]
        accumulate(values.numpy(), residual, velocity, np.float32(self._momentum))
        places = select(residual, self.slots(elements))
        write_pairs(places, take(residual, velocity, places), wire, elements)

    def decode(self, wire: torch.Tensor, values: torch.Tensor) -> None:
        """Zeros but for what was sent."""
        if wire.numel() == 4 * values.numel():
            values.numpy()[:] = wire.numpy().view(np.float32)
            return
        indices, sent = wire.numpy().view(np.int32).reshape(2, -1)
        values.zero_()
        values.numpy()[indices] = sent.view(np.float32)

    def encode_mean(
        self,
        values: torch.Tensor,
        wire: torch.Tensor,
        state: torch.Tensor,
        seed: int,
        senders: int,
    ) -> None:
        """Everything that is not zero."""
        array = values.numpy()
        places = at_least(array, np.int32(1))
        write_pairs(places, array[places], wire, values.numel())
