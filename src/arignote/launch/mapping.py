"""On which cores of a host the launcher maps workers on CPUs: so that all NUMA nodes are used, and
no worker has cores of two sockets where that can be had.

Left to itself Open MPI fills cores in order: few workers with few threads share the memory of the
first node. And it refuses to start a worker whose cores are of two sockets.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, TypeAlias

from arignote.topology.machine import Cores

Mapping: TypeAlias = Literal["slot", "numa", "none"]
"""In the order of cores; over the NUMA nodes; not at all, since one would straddle sockets."""


def threads_each(cores: int, workers: int, sockets: Sequence[int]) -> int:
    """Threads for each of a host's workers: as many as it has cores, of one socket if it can be.

    >>> threads_each(16, 3, (8, 8)), threads_each(16, 3, (16,)), threads_each(16, 1, (8, 8))
    (4, 5, 16)
    """
    each = max(1, cores // workers)
    if len(sockets) < 2 or workers < len(sockets):
        return each
    fitting = (n for n in range(each, 0, -1) if sum(own // n for own in sockets) >= workers)
    return next(fitting, 1)


def mapping_of(workers: int, threads: int, cores: Cores) -> Mapping:
    """How so many workers of a host are mapped."""
    if len(cores.nodes) > 1 and sum(own // threads for own in cores.nodes) >= workers:
        return "numa"
    borders = list(accumulate(cores.sockets))[:-1]
    last = workers * threads
    straddles = any(border % threads and border < last for border in borders)
    return "none" if straddles else "slot"
