"""Open the centres of a rule: where they lie, and who serves them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from arignote.comm.base import World
from arignote.comm.crew import Crew
from arignote.comm.service import Service
from arignote.comm.shared_memory import SharedRows
from arignote.errors import UserError
from arignote.exchange.base import Codec, cut
from arignote.exchange.centre.base import Centre, MeetsCentre
from arignote.exchange.centre.desk import CentreDesk
from arignote.exchange.centre.remote import RemoteCentre
from arignote.exchange.centre.shared import SharedCentre
from arignote.exchange.centre.wire import slots_bytes
from arignote.exchange.jit import load

_WHAT = "the opening of the centre"


def open_centres(
    crew: Crew,
    vectors: Sequence[torch.Tensor],
    described: Any,
    rule: MeetsCentre,
    codec: Codec,
) -> list[Centre]:
    """A centre for each vector (on the CPU, float32 or float64), zeroed; collective.

    Without servers and on one host, in shared memory.

    Args:
        described: the rule, as something JSON can hold, for the servers.

    Raises:
        UserError: more servers than elements, or a codec where nothing goes over a wire.
    """
    sizes = [(vector.numel(), str(vector.dtype).removeprefix("torch.")) for vector in vectors]
    load(rule.loops, [np.dtype(name) for _, name in sizes])
    if not crew.servers and crew.one_host:
        if not codec.lossless:
            raise UserError(
                f"the centre lies in memory that the workers share, so {codec.name} would save "
                "nothing: leave it out, or let a server hold the centre (--servers 1)"
            )
        return [
            SharedCentre(crew.workers, vector.numel(), vector.dtype, rule) for vector in vectors
        ]
    # Wherever they are, all ranks must hear of it: a server waits for this.
    crew.whole.gather({"rule": described, "codec": codec.name, "sizes": sizes}, _WHAT)
    _check(crew, sizes)
    world, servers = _service_world(crew), _servers(crew)
    service = None
    shared = _shared(crew, world, sizes)
    if not crew.servers and world.rank == 0:
        service = _service(world, servers, sizes, rule, codec, shared)
        service.start()
    own = shared[world.rank] if shared else ()
    return [
        RemoteCentre(world, servers, desk, vector.numel(), vector.dtype, codec, service, own)
        for desk, vector in enumerate(vectors)
    ]


def serve_centres(crew: Crew, find: Callable[[Any, str], tuple[MeetsCentre, Codec]]) -> None:
    """A server's whole work, until the last worker has said goodbye; collective.

    Args:
        find: (rule as described, codec's name) -> what does a visit, and the codec.

    Raises:
        UserError: as `open_centres`.
    """
    told = crew.whole.gather(None, _WHAT)[0]
    _check(crew, told["sizes"])
    rule, codec = find(told["rule"], told["codec"])
    load(rule.loops, [np.dtype(name) for _, name in told["sizes"]])
    world = _service_world(crew)
    shared = _shared(crew, world, told["sizes"])
    _service(world, _servers(crew), told["sizes"], rule, codec, shared).run()


def _service_world(crew: Crew) -> World:
    world = crew.whole.split(0)
    world.patient = world.crowded
    return world


def _shared(crew: Crew, world: World, sizes: Sequence[Any]) -> list[list[torch.Tensor]]:
    """Memory for parts under way between worker i (first index) and server j, seen by both.

    A worker asks one thing after the other, so it serves for all vectors. Empty: on several hosts,
    or where a rank cannot open the memory of another; collective.
    """
    if not crew.one_host:
        return []
    size = max(slots_bytes(elements, getattr(torch, dtype)) for elements, dtype in sizes)
    workers, servers = crew.whole.size - crew.servers, crew.servers
    try:
        memory = SharedRows(world, size, torch.uint8, rows=workers * servers)
    except UserError:
        # All learn of it together. Messages do.
        return []
    return [[memory.row(i * servers + j) for j in range(servers)] for i in range(workers)]


def _servers(crew: Crew) -> list[int]:
    workers = crew.whole.size - crew.servers
    return list(range(workers, crew.whole.size)) or [0]


def _check(crew: Crew, sizes: Sequence[Any]) -> None:
    least = min(elements for elements, _ in sizes)
    if crew.servers > least:
        raise UserError(
            f"{crew.servers} servers for a vector of {least} elements: use --servers {least} or "
            "fewer"
        )


def _service(
    world: World,
    servers: list[int],
    sizes: Sequence[Any],
    rule: MeetsCentre,
    codec: Codec,
    shared: list[list[torch.Tensor]],
) -> Service:
    """The service of this rank: a desk for its slice of every vector."""
    own = servers.index(world.rank)
    rows = {worker: theirs[own] for worker, theirs in enumerate(shared)}
    desks = {}
    for number, (elements, dtype) in enumerate(sizes):
        part = cut(elements, len(servers))[own]
        size = part.stop - part.start
        desks[number] = CentreDesk(size, getattr(torch, dtype), rule, codec, rows)
    clients = world.size - (len(servers) if servers != [0] else 1)
    return Service(world, desks, clients)
