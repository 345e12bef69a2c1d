"""A world of one worker: needs no MPI, every operation is the identity."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from arignote.comm.base import Meeting, Peer, Request, World


@dataclass
class _Alone:
    """A meeting of one, with its values."""

    values: npt.NDArray[np.float64]

    def done(self) -> bool:
        return True


class SerialWorld(World):
    """One worker alone."""

    def __init__(self) -> None:
        self.rank = 0
        self.peers = (Peer(0, platform.node(), os.getpid()),)
        self.library = "none (one worker)"
        self.timeout_seconds = 0.0

    def open_meeting(self, values: Sequence[float]) -> Meeting:
        """All are here."""
        return _Alone(np.array(values, dtype=np.float64))

    def close_meeting(self, meeting: Meeting, what: str) -> npt.NDArray[np.float64]:
        """The values themselves."""
        assert isinstance(meeting, _Alone)
        return meeting.values

    def sum_(self, vector: torch.Tensor, what: str) -> None:
        """The vector is its own sum."""

    def broadcast_(self, vector: torch.Tensor, what: str) -> None:
        """The vector is rank 0's already."""

    def gather(self, item: Any, what: str) -> list[Any]:
        """The one item."""
        return [item]

    def send(self, wire: torch.Tensor, to: int, tag: int) -> Request:
        """There is nobody to send to."""
        raise ValueError(f"one worker alone cannot send to worker {to}")

    def receive(self, wire: torch.Tensor, source: int, tag: int) -> Request:
        """There is nobody to receive from."""
        raise ValueError(f"one worker alone cannot receive from worker {source}")

    def wait(self, requests: Sequence[Request], what: str) -> None:
        """There are no requests."""

    def probe(self, tag: int) -> int | None:
        """There are no messages."""
        return None

    def split(self, color: int) -> World:
        """The same again."""
        return SerialWorld()

    def close(self) -> None:
        """Nothing to leave."""
