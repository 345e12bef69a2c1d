"""Workers first, then servers."""

from __future__ import annotations

import os

import pytest

from arignote.comm.base import World
from arignote.comm.crew import form_crew
from arignote.comm.threads import run_threads, thread_worlds


@pytest.mark.parametrize(("size", "servers"), [(3, 1), (5, 2), (4, 3)])
def test_parts(size: int, servers: int) -> None:
    def work(world: World) -> None:
        crew = form_crew(world, servers)
        workers = size - servers
        assert crew.is_server == (world.rank >= workers)
        assert crew.whole is world
        assert crew.servers == servers
        assert crew.workers.size == (servers if crew.is_server else workers)
        assert [peer.kind for peer in world.peers] == ["worker"] * workers + ["server"] * servers
        # Numbers in the run, also in the parts.
        first = workers if crew.is_server else 0
        assert [peer.rank for peer in crew.workers.peers] == list(
            range(first, first + crew.workers.size)
        )
        kind = "server" if crew.is_server else "worker"
        assert str(crew.workers.peers[0]).startswith(f"{kind} {first} (host ")
        assert crew.workers.meet([1], "the part").tolist() == [crew.workers.size]
        assert crew.one_host
        # A server waits for as long as the workers take; they have deadlines.
        assert (world.timeout_seconds > 1e6) == crew.is_server
        assert crew.workers.timeout_seconds == 20

    run_threads(thread_worlds(size), work)


def test_no_servers() -> None:
    (world,) = thread_worlds(1)
    crew = form_crew(world, 0)
    assert crew.whole is crew.workers is world
    assert not crew.is_server


def test_hosts() -> None:
    def work(world: World) -> tuple[bool, bool]:
        crew = form_crew(world, 1)
        return crew.one_host, len({peer.host for peer in crew.workers.peers}) == 1

    assert run_threads(thread_worlds(3, hosts=["a", "a", "b"]), work) == [
        (False, True),
        (False, True),
        (False, True),
    ]


@pytest.mark.parametrize(("cores", "expected"), [(1, [True, True, False]), (2, [False] * 3)])
def test_a_host_with_fewer_cores_than_ranks(
    cores: int, expected: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    worlds = thread_worlds(3, hosts=["a", "a", "b"])
    assert [world.crowded for world in worlds] == expected
