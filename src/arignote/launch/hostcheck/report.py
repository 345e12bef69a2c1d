"""What is found out about the hosts of a job."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from arignote.bench.link_report import Device


class HostFacts(BaseModel):
    """One host, as `hostcheck.facts` tells of it, and as the MPI job adds to it."""

    model_config = ConfigDict(extra="forbid")

    node: str
    """What the host calls itself."""
    python: str
    executable: str
    packages: dict[str, str | None]
    """Versions; None: not installed."""
    code: str | None
    """The first digits of the SHA-256 of arignote's Python files; None: not installed."""
    mpi: str | None
    """Name and version of the library that mpi4py loads; None: it loads none."""
    mpi_problem: str
    devices: list[Device]
    cores: int
    """Physical ones that a process may use."""
    memory_gib: float
    free_memory_gib: float
    free_shared_memory_gib: float | None
    """None: there is no /dev/shm."""
    interfaces: dict[str, list[str]]
    """Addresses of each network interface."""
    ways: dict[str, str | None]
    """The interface that leads to each other host; None: its name is not known there."""
    cuda_aware: bool | None = None
    """Whether its MPI takes pointers into a GPU's memory; None: the job did not start."""
    clock_seconds: float | None = None
    """By how much its clock is ahead of the first host's; None: not measured."""
    visible_devices: int | None = None
    """GPUs that torch sees; None: the job did not start."""


class HostLink(BaseModel):
    """Between two hosts, by their names."""

    model_config = ConfigDict(extra="forbid")

    first: str
    second: str
    there_mbit: float
    """From first to second, in Mbit/s."""
    back_mbit: float
    latency_us: float
    """One way."""

    @property
    def rate_mbit(self) -> float:
        """Of the slower direction."""
        return min(self.there_mbit, self.back_mbit)


class HostsDiagnosis(BaseModel):
    """All of it."""

    hosts: dict[str, HostFacts | None]
    """None: this host did not answer."""
    links: list[HostLink]
    links_left_out: int = 0
    """Links that were not measured, because the time was over."""
    advice: list[str]
    """A line for each thing wrong."""
