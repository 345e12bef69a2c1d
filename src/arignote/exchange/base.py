"""The contracts of routes and codecs, and the exchange that is made of one of each."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from arignote.comm.base import World


class Codec(ABC):
    """The number format of a vector on the wire."""

    name: str
    lossless: bool
    """Whether `decode_` gives back exactly what `encode` was given."""

    @abstractmethod
    def encode(self, vector: torch.Tensor) -> torch.Tensor:
        """What is sent for `vector` (1-D); may be `vector` itself."""

    @abstractmethod
    def decode_(self, wire: torch.Tensor, vector: torch.Tensor) -> None:
        """Write what arrived back into `vector`."""


class Route(ABC):
    """The way that the bytes of a vector take from all workers to all workers."""

    name: str

    def __init__(self, world: World) -> None:
        self.world = world

    def allocate(self, elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Memory for a vector that this route will carry, zeroed, shape (elements,).

        A route that needs memory of its own (pinned, shared) overrides this.
        """
        return torch.zeros(elements, dtype=dtype, device=device)

    @abstractmethod
    def sum_(self, wire: torch.Tensor, what: str) -> int:
        """Replace `wire` (1-D, contiguous) by the sum over all workers, who have all come.

        Returns:
            The bytes that this worker put on the wire.
        """


class Exchange:
    """Averages a flat vector in place over the workers of a world."""

    def __init__(self, route: Route, codec: Codec) -> None:
        self.route = route
        self.codec = codec

    @property
    def name(self) -> str:
        """As users write it: `route:codec`."""
        return f"{self.route.name}:{self.codec.name}"

    def mean_(self, vector: torch.Tensor, *, share: float, what: str) -> int:
        """Replace `vector` by the weighted mean: the sum over workers of share * vector.

        The shares of all workers sum to 1 (a worker's samples / all samples of the round).

        Returns:
            The bytes that this worker put on the wire.
        """
        if share != 1.0:
            vector.mul_(share)
        wire = self.codec.encode(vector)
        wire_bytes = self.route.sum_(wire, what)
        self.codec.decode_(wire, vector)
        return wire_bytes
