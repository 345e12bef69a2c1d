"""What every world must do, whoever carries its messages: MPI (mpi_checks.py), or threads."""

from __future__ import annotations

import time

import numpy as np
import torch

from arignote.comm.base import World

SIZES = (0, 1, 7, 4096, 1_000_003)


def check_meet(world: World) -> None:
    n = world.size
    for turn in range(3):
        total = world.meet([1.0, world.rank, turn], "a check")
        assert total.tolist() == [n, n * (n - 1) / 2, n * turn]
        assert total.dtype == np.float64
    assert world.meet([], "an empty check").shape == (0,)


def check_sum(world: World) -> None:
    n = world.size
    for dtype in (torch.float32, torch.float64):
        for elements in SIZES:
            for _ in range(2):
                base = torch.arange(elements, dtype=dtype) % 1000
                vector = base + world.rank
                world.meet([], "a sum")
                world.sum_(vector, "a sum")
                assert torch.equal(vector, n * base + n * (n - 1) / 2)


def check_sum_of_nan(world: World) -> None:
    vector = torch.ones(5)
    if world.rank == world.size - 1:
        vector[2], vector[3] = float("nan"), float("inf")
    world.meet([], "a sum")
    world.sum_(vector, "a sum")
    assert torch.isnan(vector[2])
    assert torch.isinf(vector[3])
    assert vector[0] == world.size


def check_broadcast(world: World) -> None:
    for dtype in (torch.float32, torch.float64, torch.int64):
        vector = torch.arange(1001, dtype=dtype) + world.rank
        world.broadcast_(vector, "a broadcast")
        assert torch.equal(vector, torch.arange(1001, dtype=dtype))


def check_gather(world: World) -> None:
    item = {"rank": world.rank, "text": "é" * world.rank, "none": None}
    items = world.gather(item, "a gathering")
    assert [entry["rank"] for entry in items] == list(range(world.size))
    assert items[-1]["text"] == "é" * (world.size - 1)


def check_peers(world: World) -> None:
    assert [peer.rank for peer in world.peers] == list(range(world.size))
    assert world.peers[world.rank].rank == world.rank
    assert world.library
    # All on this one host here.
    assert world.local_rank == world.rank


def check_messages(world: World) -> None:
    # Everyone to everyone else, several of one tag at once, sizes 0 to many.
    others = [rank for rank in range(world.size) if rank != world.rank]
    for elements in SIZES:
        sent = [torch.arange(elements).float() + world.rank + turn for turn in range(2)]
        got = {rank: [torch.empty(elements) for _ in range(2)] for rank in others}
        requests = [world.send(sent[turn], rank, 3) for rank in others for turn in range(2)]
        requests += [world.receive(got[rank][turn], rank, 3) for rank in others for turn in (0, 1)]
        world.wait(requests, "messages")
        assert all(request.done() for request in requests)
        for rank in others:
            for turn in range(2):
                assert torch.equal(got[rank][turn], torch.arange(elements).float() + rank + turn)


def check_meetings_open_at_once(world: World) -> None:
    n = world.size
    first = world.open_meeting([1.0, world.rank])
    second = world.open_meeting([10.0])
    # Other collectives come in between, and messages.
    assert world.meet([2.0], "a meeting between").tolist() == [2 * n]
    vector = torch.full((5,), float(world.rank))
    world.sum_(vector, "a sum between")
    assert vector.tolist() == [n * (n - 1) / 2] * 5
    if n > 1:
        got = torch.empty(1)
        requests = [world.receive(got, (world.rank - 1) % n, 4)]
        requests.append(world.send(torch.ones(1), (world.rank + 1) % n, 4))
        world.wait(requests, "messages between")
    third = world.open_meeting([])
    assert world.close_meeting(first, "the first").tolist() == [n, n * (n - 1) / 2]
    assert first.done()
    assert world.close_meeting(second, "the second").tolist() == [10 * n]
    assert world.close_meeting(third, "the third").shape == (0,)


def check_meeting_waits_for_nobody(world: World) -> None:
    n = world.size
    values = np.array([1.0])
    if world.rank:
        # Worker 0 lets the others come only once it has opened the meeting.
        world.wait([world.receive(torch.empty(1), 0, 5)], "worker 0")
    meeting = world.open_meeting(values)
    values[0] = 99.0
    if world.rank == 0:
        assert meeting.done() == (n == 1)
        world.wait([world.send(torch.ones(1), rank, 5) for rank in range(1, n)], "the others")
    while not meeting.done():
        time.sleep(0)
    assert world.close_meeting(meeting, "a meeting").tolist() == [n]


def check_probe(world: World) -> None:
    n = world.size
    assert world.probe(6) is None
    world.meet([], "nothing is sent yet")
    if world.rank:
        sent = [torch.full((3,), 10.0 * world.rank + turn) for turn in range(2)]
        world.wait([world.send(wire, 0, 6) for wire in sent], "two messages")
    else:
        heard: dict[int, list[float]] = {rank: [] for rank in range(1, n)}
        for _ in range(2 * (n - 1)):
            source = _probe_until_found(world, 6)
            assert world.probe(7) is None
            wire = torch.empty(3)
            world.wait([world.receive(wire, source, 6)], "a message")
            heard[source].append(wire[0].item())
        assert heard == {rank: [10.0 * rank, 10.0 * rank + 1] for rank in range(1, n)}
    assert world.probe(6) is None
    world.meet([], "the end of the check")


def check_probe_leaves_out_what_is_asked_for(world: World) -> None:
    if world.rank == 1:
        sent = [world.send(torch.full((1,), value), 0, 8) for value in (1.0, 2.0)]
        world.wait(sent, "two messages")
    if world.rank == 0 and world.size > 1:
        first, second = torch.empty(1), torch.empty(1)
        request = world.receive(first, 1, 8)
        assert _probe_until_found(world, 8) == 1
        world.wait([world.receive(second, 1, 8), request], "two messages")
        assert (first.item(), second.item()) == (1.0, 2.0)
    world.meet([], "the end of the check")
    assert world.probe(8) is None


def _probe_until_found(world: World, tag: int) -> int:
    deadline = time.monotonic() + 20
    while (source := world.probe(tag)) is None:
        assert time.monotonic() < deadline
        time.sleep(0)
    return source


def check_split(world: World) -> None:
    part = world.split(world.rank % 2)
    members = [rank for rank in range(world.size) if rank % 2 == world.rank % 2]
    assert part.size == len(members)
    assert members[part.rank] == world.rank
    assert part.meet([world.rank], "a part").tolist() == [sum(members)]
    assert world.meet([1], "the whole").tolist() == [world.size]
    twin = world.split(0)
    assert (twin.rank, twin.size) == (world.rank, world.size)
    twin.close()
    part.close()


CHECKS = (
    check_meet,
    check_sum,
    check_sum_of_nan,
    check_broadcast,
    check_gather,
    check_peers,
    check_messages,
    check_meetings_open_at_once,
    check_meeting_waits_for_nobody,
    check_probe,
    check_probe_leaves_out_what_is_asked_for,
    check_split,
)
