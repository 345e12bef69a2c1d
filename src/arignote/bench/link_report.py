"""What the workers of `bench.links` tell: neither torch nor MPI."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

REPORT_PREFIX = "ARIGNOTE_LINKS "
HERE_PREFIX = "ARIGNOTE_HERE "
"""Begins the line by which each worker says that it runs, before it joins the world."""
MET_LINE = "ARIGNOTE_MET"
"""By it rank 0 says that all have joined."""


class Device(BaseModel):
    """A GPU."""

    model_config = ConfigDict(extra="forbid")

    name: str
    free_gib: float
    gib: float


class Rank(BaseModel):
    """What one worker found on its host."""

    model_config = ConfigDict(extra="forbid")

    node: str
    cuda_aware: bool
    """Whether its MPI takes pointers into a GPU's memory."""
    devices: list[Device]
    """As torch sees them."""


class Link(BaseModel):
    """Between two ranks, `first` < `second`."""

    model_config = ConfigDict(extra="forbid")

    first: int
    second: int
    there_mbit: float
    """From first to second, in Mbit/s."""
    back_mbit: float
    latency_us: float
    """One way, a message of 8 bytes: half of the median round trip."""
    clock_seconds: float
    """By how much the second's clock is ahead of the first's."""


class LinkReport(BaseModel):
    """All of it."""

    model_config = ConfigDict(extra="forbid")

    ranks: list[Rank]
    links: list[Link]
    left_out: int
    """Pairs that were not measured, because the time was over."""
