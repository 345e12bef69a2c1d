"""The contracts of routes and codecs.

One round, for a vector x of n elements, weights w_i (their mean over the p workers is 1):

    x <- (w_0 x_0 + w_1 x_1 + ... + w_{p-1} x_{p-1}) * (1/p)

Each product and each sum is rounded on its own, in this order, on our routes shm and asa: so
they, and any cut of the vector into parts, give the same bits. (hier adds up each host first;
MPI's and NCCL's order is their own; two workers leave no choice.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch

from arignote.comm.base import World
from arignote.config.exchange_options import CodecOptions


@dataclass
class State:
    """What a codec keeps from round to round for one vector on one worker."""

    worker: torch.Tensor
    """(worker_rows, elements that this worker encodes): for what it sends."""
    owner: torch.Tensor
    """(owner_rows, elements of its slice): for the means that it sends as their owner."""
    worker_start: int = 0
    """Where in the vector `worker` begins."""
    owner_start: int = 0
    """Where in the vector `owner` begins."""
    encoders: int = 1
    """How many workers encode each element."""
    rounds: int = 0
    """Rounds so far; random rounding draws from it."""


class Codec(ABC):
    """The number format of a slice of a vector on the wire.

    Values are float32 on the CPU, 1-D, contiguous; wires are uint8. How many bytes a slice
    takes depends only on its number of elements; what comes out only on the arguments.
    """

    name: ClassVar[str]
    lossless: ClassVar[bool] = False
    """Whether values come through as they were: then routes send their own memory."""
    block: ClassVar[int] = 1
    """Elements that are encoded together: slices are cut at multiples of it."""
    worker_rows: ClassVar[int] = 0
    """Vectors of state that a worker keeps for what it sends (error feedback)."""
    owner_rows: ClassVar[int] = 0
    """Vectors of state that the owner of a slice keeps for the means that it sends."""

    def __init__(self, options: CodecOptions) -> None:
        self.options = options

    def check(self, elements: int) -> None:  # noqa: B027 (most codecs fit any size)
        """Raise a UserError if the options do not fit a vector of so many elements."""

    def rehearse(self, elements: int, senders: int) -> None:
        """Encode and decode `elements` zeros, so that all loops are compiled, or read, by now.

        Else the first round does it: for seconds where nothing is in Numba's cache, while the
        other workers' deadlines run (the bad story stands in `exchange.jit.load`).
        """
        values = torch.zeros(elements)
        own, means = torch.zeros(self.worker_rows, elements), torch.zeros(self.owner_rows, elements)
        wire = torch.zeros(self.wire_bytes(elements), dtype=torch.uint8)
        self.encode(values, wire, own, 0)
        self.decode(wire, values)
        wire = torch.zeros(self.mean_wire_bytes(elements, senders), dtype=torch.uint8)
        self.encode_mean(values, wire, means, 0, senders)
        self.decode_mean(wire, values, senders)

    @abstractmethod
    def wire_bytes(self, elements: int) -> int:
        """Bytes that a worker's slice of `elements` takes."""

    @abstractmethod
    def encode(
        self, values: torch.Tensor, wire: torch.Tensor, state: torch.Tensor, seed: int
    ) -> None:
        """Write a worker's `values` into `wire` (wire_bytes,); they stay as they are.

        Args:
            state: (worker_rows, elements), changed in place: what was lost, for the next round.
            seed: of random rounding; another one for every slice, worker and round.
        """

    @abstractmethod
    def decode(self, wire: torch.Tensor, values: torch.Tensor) -> None:
        """Write what `encode` put into `wire` to `values`."""

    def mean_wire_bytes(self, elements: int, senders: int) -> int:
        """Bytes of a slice that is the mean of `senders` decoded ones."""
        return self.wire_bytes(elements)

    def encode_mean(
        self,
        values: torch.Tensor,
        wire: torch.Tensor,
        state: torch.Tensor,
        seed: int,
        senders: int,
    ) -> None:
        """As `encode`, for a mean of `senders` workers; `state` is (owner_rows, elements)."""
        self.encode(values, wire, state, seed)

    def decode_mean(self, wire: torch.Tensor, values: torch.Tensor, senders: int) -> None:
        """Write what `encode_mean` put into `wire` to `values`."""
        self.decode(wire, values)


class Route(ABC):
    """The way that the bytes of a vector take from all workers to all workers.

    Raises:
        UserError: it cannot serve the workers of this world; says why, and what can.
    """

    name: ClassVar[str]
    shards: ClassVar[bool] = False
    """Whether it offers `own_slice`, `reduce_scatter_` and `all_gather_`."""
    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    """Device types whose memory it takes; other vectors pass through the host's memory."""
    device_reason: str = "it adds up in the host's memory"
    """Why it takes the memory of an accelerator, or does not."""
    needs_meeting: ClassVar[bool] = True
    """Whether all workers must have met just before (a step's roll call is such a meeting)."""
    cuts: bool = False
    """Whether parts of a vector give the bits of the whole, with a codec that loses nothing."""
    averages: ClassVar[bool] = True
    """Whether `mean_` gives all workers the mean; else they trade."""

    def __init__(self, world: World) -> None:
        self.world = world

    def allocate(self, elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Memory for a vector that this route will carry, zeroed, shape (elements,).

        Collective: all workers allocate the same, in the same order.
        """
        return torch.zeros(elements, dtype=dtype, device=device)

    @abstractmethod
    def mean_(self, vector: torch.Tensor, codec: Codec, state: State, what: str) -> int:
        """Replace `vector` (1-D, contiguous, float32 or float64) by the mean over all workers.

        Returns:
            The bytes that this worker sent to others.

        Raises:
            LostWorkerError: a worker did not do its part in time.
        """

    def new_state(self, elements: int, codec: Codec) -> State:
        """Zeroed state of `codec` for a vector of `elements`."""
        return State(torch.zeros(0, 0), torch.zeros(0, 0))

    def own_slice(self, elements: int) -> slice:
        """The part of a vector that `reduce_scatter_` completes on this worker."""
        raise NotImplementedError

    def reduce_scatter_(self, vector: torch.Tensor, what: str) -> int:
        """Replace this worker's slice of `vector` by the mean; the rest is undefined."""
        raise NotImplementedError

    def all_gather_(self, vector: torch.Tensor, what: str) -> int:
        """Bring every worker's slice of `vector` to all."""
        raise NotImplementedError

    def twin(self, world: World) -> Route:
        """The same for another thread, over `world`, which has the same workers."""
        return type(self)(world)

    def close(self) -> None:  # noqa: B027 (most routes hold nothing)
        """Let go of what is held; after the last round."""


def cut(elements: int, parts: int, block: int = 1) -> list[slice]:
    """`elements` in `parts` slices of nearly equal length, borders at multiples of `block`."""
    blocks = -(-elements // block)
    borders = [min(elements, part * blocks // parts * block) for part in range(parts + 1)]
    return [slice(a, b) for a, b in pairwise(borders)]
