"""Over which cores workers are mapped, on machines that nobody has to have."""

from __future__ import annotations

import pytest

from arignote.launch.mapping import mapping_of, threads_each
from arignote.topology.machine import Cores

LAPTOP = Cores((8,), (8,))
TWO = Cores((8, 8), (8, 8))
FOUR_NODES_ONE_SOCKET = Cores((32,), (8, 8, 8, 8))


@pytest.mark.parametrize(
    ("workers", "cores", "threads"),
    [
        (1, TWO, 16),
        (2, TWO, 8),
        (3, TWO, 4),
        (4, TWO, 4),
        (5, TWO, 2),
        (16, TWO, 1),
        (17, TWO, 1),
        (3, LAPTOP, 2),
        (9, LAPTOP, 1),
        (3, FOUR_NODES_ONE_SOCKET, 10),
        # A CPU set that takes more of one socket.
        (2, Cores((8, 4), (8, 4)), 4),
    ],
)
def test_threads(workers, cores, threads):
    assert threads_each(sum(cores.sockets), workers, cores.sockets) == threads


@pytest.mark.parametrize(
    ("workers", "threads", "cores", "mapping"),
    [
        (2, 4, LAPTOP, "slot"),
        (2, 2, TWO, "numa"),
        (2, 8, TWO, "numa"),
        (3, 4, TWO, "numa"),
        # What somebody asked for.
        (1, 16, TWO, "none"),
        (3, 5, TWO, "none"),
        (1, 5, TWO, "numa"),
        (3, 10, FOUR_NODES_ONE_SOCKET, "slot"),
        (4, 8, FOUR_NODES_ONE_SOCKET, "numa"),
        # The kernel tells of no nodes.
        (2, 4, Cores((8, 8), ()), "slot"),
        (2, 3, Cores((8, 8), ()), "slot"),
        (3, 3, Cores((8, 8), ()), "none"),
    ],
)
def test_mappings(workers, threads, cores, mapping):
    assert mapping_of(workers, threads, cores) == mapping
