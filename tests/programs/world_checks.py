"""What every world must do, whoever carries its messages. Run under mpirun, or in threads."""

from __future__ import annotations

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
    check_split,
)


def main() -> None:
    """All checks on the world that this process was started into."""
    from arignote.comm.open import open_world

    world = open_world(60.0)
    for check in CHECKS:
        check(world)
    if world.rank == 0:
        print(f"all checks passed with {world.size} workers: {world.library}", flush=True)
    world.meet([], "the end")
    world.close()


if __name__ == "__main__":
    main()
