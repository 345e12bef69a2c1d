"""All ranks of a run: the workers, and after them the servers, if there are any."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from arignote.comm.base import World


@dataclass(frozen=True)
class Crew:
    """Who is there."""

    whole: World
    """Workers first, then servers."""
    workers: World
    """The workers alone (on a server: the servers alone)."""
    servers: int
    """How many servers; with none, worker 0 does their work beside its own."""

    @property
    def is_server(self) -> bool:
        """Whether this rank is one."""
        return self.whole.rank >= self.whole.size - self.servers

    @property
    def one_host(self) -> bool:
        """Whether all ranks are on one host."""
        return len({peer.host for peer in self.whole.peers}) == 1


def form_crew(whole: World, servers: int) -> Crew:
    """Part the world into workers and servers; collective."""
    if not servers:
        return Crew(whole, whole, 0)
    workers = whole.size - servers
    whole.peers = tuple(
        replace(peer, kind="worker" if rank < workers else "server")
        for rank, peer in enumerate(whole.peers)
    )
    crew = Crew(whole, whole.split(int(whole.rank >= workers)), servers)
    if crew.is_server:
        # It waits as long as workers take to load their data, or to validate; they, who wait for
        # each other and for it, have deadlines.
        whole.timeout_seconds = threading.TIMEOUT_MAX
    return crew
