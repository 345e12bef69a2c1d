"""The contract of a centre, and of what a rule does with it.

A visit: the worker gives a payload of as many elements as the centre, the rule's `meet` changes
payload and centre together, and what the payload has become goes back to the worker. `meet` is
elementwise and knows nothing of where it runs: in the worker, on memory that all share, or on a
server, on a slice that came over a wire. The bits are the same.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt
import torch

Array: TypeAlias = npt.NDArray[Any]
Give: TypeAlias = Callable[[slice, Array], None]
"""(which elements, where to write them): the payload."""
Take: TypeAlias = Callable[[slice, Array], None]
"""(which elements, what came back)."""
AtOnce: TypeAlias = Callable[[slice, Array], None]
"""(which elements, these of the centre): all of a visit in one pass over both."""


class MeetsCentre(Protocol):
    """The part of a rule that runs where the centre is."""

    rows: int
    """Vectors that it keeps beside the centre."""
    keeps: bool
    """Whether it must know what each worker was last given."""
    loops: Sequence[Any]
    """The compiled loops that a visit uses, in the worker and where the centre is."""

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
        """Change `payload` into the answer, and `centre` and `rows` in place.

        Args:
            kept: what this worker was last given; changed by the caller, not here.
            numbers: as the worker gave them (step sizes and the like).
            staleness: visits of others since this worker's last.
            through: rounds an array to what the wire carries; None: it carries all.
        """


@dataclass(frozen=True)
class Visit:
    """What one visit came to."""

    staleness: int
    """Visits of others since this worker's last."""
    wire_bytes: int
    """Sent by this worker and to it."""
    busy_seconds: float = 0.0
    """So far, of the busiest server: in which it had something to do."""
    server_seconds: float = 0.0
    """So far, of the same: since it began; 0: there is no server."""

    @property
    def server_load(self) -> float | None:
        """Part of its time so far in which the busiest server had something to do."""
        return self.busy_seconds / self.server_seconds if self.server_seconds else None


class Centre(ABC):
    """A vector for all workers; what one worker asks of it no other has to wait for."""

    elements: int
    dtype: torch.dtype

    @abstractmethod
    def visit(
        self,
        numbers: Sequence[float],
        give: Give,
        take: Take,
        what: str,
        *,
        payload: Array | None = None,
        at_once: AtOnce | None = None,
    ) -> Visit:
        """One visit; waits for nobody but who is in the same place of the centre just now.

        Args:
            payload: all of it, where it lies in memory as `give` would write it: saves a copy.
            at_once: for a centre that is at hand and keeps nothing beside: does what `give`, `meet`
                and `take` do, with the same bits.

        Raises:
            LostWorkerError: no answer within the world's deadline.
        """

    @abstractmethod
    def read(self, row: int, out: torch.Tensor) -> None:
        """Copy the centre (row 0), or what the rule keeps beside it, into `out`."""

    @abstractmethod
    def write(self, row: int, values: torch.Tensor) -> None:
        """Replace it; no other worker may visit meanwhile."""

    @abstractmethod
    def behind(self) -> int:
        """Visits of others since this worker's last."""

    @abstractmethod
    def begin(self, given: torch.Tensor | None, behind: int) -> None:
        """This worker goes on from `given`, as if its last visit, `behind` ago, had given it.

        Args:
            given: may be None where the rule keeps nothing of it.
        """

    @abstractmethod
    def close(self) -> None:
        """The last visit of this worker is over."""
