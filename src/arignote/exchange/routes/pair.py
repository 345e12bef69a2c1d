"""pair: the workers trade their vectors two by two; nobody averages.

In every round all workers draw the same random matching, from a seed and the number of the round,
so that nobody has to be told; then partners a and b trade:

    x_a, x_b  <-  x_b, x_a          where p is odd, one worker keeps its own

    sends n values a worker, in the codec's format

So all vectors of a round are there again after it, in other hands: what a rule for workers that
must not become alike (the critics of GANs) is made of. Theano-MPI's `swap`, there drawn by one
worker and broadcast, for up to ten pairs; we take any number, also an odd one.
"""

from __future__ import annotations

import numpy as np
import torch

from arignote.comm.base import World
from arignote.exchange.base import Codec, Route, State

_STREAM = 160508325
"""Tells these draws from all others of the same seed."""
_TRADE = 3


def matching(workers: int, number: int, seed: int = 0) -> list[int]:
    """Each worker's partner in round `number`, shape (workers,); itself: it sits out."""
    order = np.random.default_rng([_STREAM, seed, number]).permutation(workers).tolist()
    partners = list(range(workers))
    for a, b in zip(order[0::2], order[1::2], strict=False):
        partners[a], partners[b] = b, a
    return partners


class Pair(Route):
    """Point-to-point messages of any MPI, one each way.

    Args:
        seed: of the matchings; the same on all workers.
    """

    name = "pair"
    needs_meeting = False
    averages = False

    def __init__(self, world: World, seed: int = 0) -> None:
        super().__init__(world)
        self._seed = seed

    def twin(self, world: World) -> Pair:
        """See `Route.twin`."""
        return Pair(world, self._seed)

    def mean_(self, vector: torch.Tensor, codec: Codec, state: State, what: str) -> int:
        """Replace `vector` by the partner's; it changes only once that has arrived whole.

        The vectors of one replica count their rounds alike, so they all go to one partner.
        """
        partner = matching(self.world.size, state.rounds, self._seed)[self.world.rank]
        if partner == self.world.rank:
            return 0
        elements = vector.numel()
        if codec.lossless:
            wire, arrived = vector, torch.empty_like(vector)
        else:
            wire, arrived = torch.empty(2, codec.wire_bytes(elements), dtype=torch.uint8)
            codec.encode(vector, wire, state.worker, state.rounds)
        expected = self.world.receive(arrived, partner, _TRADE)
        sent = self.world.send(wire, partner, _TRADE)
        self.world.wait([expected, sent], what)
        if codec.lossless:
            vector.copy_(arrived)
        else:
            codec.decode(arrived, vector)
        return wire.numel() * wire.element_size()
