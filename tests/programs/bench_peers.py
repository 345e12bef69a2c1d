"""What the peers of the bench compute, as a script under `arignote run`."""

import torch
import torch.distributed as dist

from arignote.bench.peers import PEERS, join_gloo, least_wire_bytes, leave_gloo
from arignote.comm.open import open_world

world = open_world(30.0)
world.timeout_seconds = 30.0
store = join_gloo(world)
assert dist.get_world_size() == world.size
for name, make in PEERS.items():
    vector = torch.arange(1000, dtype=torch.float32) * (world.rank + 1)
    entrant = make(vector, world)
    assert entrant.name == name
    assert entrant.call() == least_wire_bytes(1000, world.size)
    mean = sum(range(1, world.size + 1)) / world.size
    assert torch.equal(vector, torch.arange(1000, dtype=torch.float32) * mean), name
leave_gloo(world)
if world.rank == 0:
    print("peers are right")
world.close()
