"""Where the workers of a process group find each other, with no setting of the user's.

Worker 0 opens a key-value store on a free port, and the others are told by a message of ours where
it is. Between hosts each tries worker 0's addresses until one answers; its own end of that
connection is the address that it shows to the others.
"""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

import psutil
import torch.distributed

from arignote.comm.base import World
from arignote.errors import UserError

dist: Any = torch.distributed
_LOOPBACK = "127.0.0.1"
_CONNECT_SECONDS = 5.0


def open_store(world: World, name: str) -> tuple[Any, str]:
    """A key-value store of all workers, and this worker's address as others reach it; collective.

    Raises:
        UserError: a worker reaches worker 0 by none of its addresses.
    """
    what = f"the start of {name}"
    timeout = timedelta(seconds=world.timeout_seconds)
    alone = len({peer.host for peer in world.peers}) == 1
    store, offer = None, None
    if world.rank == 0:
        store = dist.TCPStore(_LOOPBACK, 0, is_master=True, timeout=timeout, wait_for_workers=False)
        offer = [[_LOOPBACK] if alone else addresses(), store.port]
    candidates, port = world.gather(offer, what)[0]
    # Worker 0 is at home.
    theirs, own = (_LOOPBACK, _LOOPBACK) if world.rank == 0 else _reach(candidates, port)
    answers = world.gather(theirs, what)
    for peer, answer in zip(world.peers, answers, strict=True):
        if not answer:
            raise UserError(
                f"{name} cannot start: {peer} reaches worker 0 at none of its addresses "
                f"({', '.join(candidates)}, port {port}): open the firewall between the hosts, or "
                "use --exchange asa:fp32"
            )
    if store is None:
        store = dist.TCPStore(theirs, port, is_master=False, timeout=timeout)
    # If worker 0 failed right now, its store would be gone while others still look for it.
    world.meet([], what)
    if world.rank:
        return store, own
    away = [rank for rank, peer in enumerate(world.peers) if peer.host != world.peers[0].host]
    return store, answers[away[0]] if away else _LOOPBACK


def addresses() -> list[str]:
    """This host's addresses by which others may reach it, IPv4 first."""
    found: dict[int, list[str]] = {socket.AF_INET: [], socket.AF_INET6: []}
    for name, entries in psutil.net_if_addrs().items():
        for entry in entries:
            local = entry.address.startswith(("127.", "::1", "fe80:"))
            if entry.family in found and not local and psutil.net_if_stats()[name].isup:
                found[entry.family].append(entry.address)
    return [*found[socket.AF_INET], *found[socket.AF_INET6]]


def interface_of(address: str) -> str:
    """The network interface of this host that has `address`; empty: none."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in entries):
            return name
    return ""


def _reach(candidates: list[str], port: int) -> tuple[str, str]:
    """The first address that answers, and our own end of the connection; "" if none does."""
    for address in candidates:
        try:
            with socket.create_connection((address, port), _CONNECT_SECONDS) as probe:
                return address, str(probe.getsockname()[0])
        except OSError:
            continue
    return "", ""
