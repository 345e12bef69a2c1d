"""What no exchange can beat: moving the bytes, and nothing else.

copy    one host: every worker copies its vector, all at once (reads n, writes n elements)
line    several: raw TCP from host to host, round a ring. Inside a host no wire is needed,
        so the least that each of h hosts must send is 2 (h-1)/h * 4n bytes, and it receives
        as much at the same time.
"""

from __future__ import annotations

import select
import socket

import torch

from arignote.bench.timing import Entrant
from arignote.comm.base import World
from arignote.errors import LostWorkerError
from arignote.exchange.routes.rendezvous import open_store

_CHUNK = 1 << 20
_CLOSED = "a host closed the line: look at its worker"


def copy(source: torch.Tensor, target: torch.Tensor) -> Entrant:
    """torch's copy of `source` into `target`."""

    def call() -> int:
        target.copy_(source)
        return 0

    return Entrant("copy", call)


class Line:
    """The ring of the hosts: sockets between their first workers; collective."""

    def __init__(self, world: World) -> None:
        hosts = list(dict.fromkeys(peer.host for peer in world.peers))
        self._hosts = len(hosts)
        self._timeout_seconds = world.timeout_seconds
        self._right: socket.socket | None = None
        self._left: socket.socket | None = None
        self._landing = memoryview(bytearray(_CHUNK))
        own = world.peers[world.rank].host
        leads = world.local_rank == 0
        _, address = open_store(world, "the line")
        listener = socket.create_server((address, 0), family=_family(address)) if leads else None
        port = listener.getsockname()[1] if listener else 0
        places = world.gather([own, address, port], "the start of the line")
        if listener is not None:
            neighbour = hosts[(hosts.index(own) + 1) % len(hosts)]
            self._right = socket.create_connection(
                next((a, p) for host, a, p in places if host == neighbour and p)
            )
            listener.settimeout(world.timeout_seconds)
            self._left, _ = listener.accept()
            listener.close()
            for side in (self._right, self._left):
                side.setblocking(False)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def entrant(self, source: torch.Tensor) -> Entrant:
        """Sends the bytes of `source`, from its start again where they do not suffice."""
        total = 2 * (self._hosts - 1) * 4 * source.numel() // self._hosts
        wire = source.numpy().data.cast("B")
        return Entrant("line", lambda: self._move(wire, total))

    def _move(self, wire: memoryview, total: int) -> int:
        if self._right is None or self._left is None:
            return 0
        sent = received = 0
        while sent < total or received < total:
            sources = [self._left] if received < total else []
            sinks = [self._right] if sent < total else []
            readable, writable, _ = select.select(sources, sinks, [], self._timeout_seconds)
            if readable:
                received += self._take(self._left, min(_CHUNK, total - received))
            if writable:
                start = sent % len(wire)
                sent += self._put(self._right, wire[start : start + min(_CHUNK, total - sent)])
            if not (readable or writable):
                raise LostWorkerError(
                    f"the line stood still for {self._timeout_seconds:g} s: look at the network "
                    "between the hosts"
                )
        return total

    def _take(self, left: socket.socket, limit: int) -> int:
        try:
            count = left.recv_into(self._landing[:limit])
        except ConnectionError:
            count = 0
        if not count:
            raise LostWorkerError(_CLOSED)
        return count

    def _put(self, right: socket.socket, part: memoryview) -> int:
        try:
            return right.send(part)
        except ConnectionError:
            raise LostWorkerError(_CLOSED) from None

    def close(self) -> None:
        """Close the sockets."""
        for side in (self._right, self._left):
            if side is not None:
                side.close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
