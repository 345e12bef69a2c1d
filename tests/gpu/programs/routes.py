"""Every route on this host's GPUs, against the sums that a CPU makes; rank 0 prints JSON.

`routes.py cuda` or, to try the program itself where there is none, `routes.py cpu`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

import torch

from arignote import accelerator
from arignote.comm.base import World
from arignote.comm.open import open_world
from arignote.errors import UserError
from arignote.exchange.open import open_exchange

WAYS = ("shm:fp32", "asa:fp32", "hier:fp32", "allreduce:fp32", "ipc:fp32", "nccl:fp32")
LOSSY = ("asa:fp16",)
SIZES = (1, 4096, 3_000_001)
"""Nothing to share out; one chunk; several, the last one short."""


def noise(elements: int, seed: int) -> torch.Tensor:
    return torch.randn(elements, generator=torch.Generator().manual_seed(seed))


def weight_of(rank: int, workers: int) -> float:
    return 2 * (rank + 1) / (workers + 1)


def expected(elements: int, turn: int, workers: int) -> torch.Tensor:
    """The weighted mean in the order of the ranks, each product and sum rounded apart."""
    parts = [noise(elements, 100 * turn + r) * weight_of(r, workers) for r in range(workers)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total * (1 / workers) if workers > 1 else total


def peak(device: torch.device) -> int:
    """The most bytes that this process has had on it since the last call."""
    if not accelerator.is_one(device):
        return 0
    found = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return found


def tried(text: str, world: World, device: torch.device) -> dict[str, Any]:
    """What came of two rounds of each size."""
    found: dict[str, Any] = {"exact": True, "error": 0.0, "same": True}
    exchange = open_exchange(text, world, device)
    for elements in SIZES:
        vector = exchange.route.allocate(elements, torch.float32, device)
        exchange.prepare([vector], [[vector.shape]])
        peak(device)
        for turn in range(2):
            vector.copy_(noise(elements, 100 * turn + world.rank))
            world.meet([], "a check")
            weight = weight_of(world.rank, world.size)
            exchange.mean_(vector, weight=weight, what="a check")
            mean, wanted = vector.cpu(), expected(elements, turn, world.size)
            found["exact"] &= torch.equal(mean, wanted)
            found["error"] = max(found["error"], float((mean - wanted).abs().max()))
            digest = hashlib.sha256(mean.numpy().tobytes()).hexdigest()
            found["same"] &= len(set(world.gather(digest, "a check"))) == 1
        found["peak_vectors"] = peak(device) / (4 * elements)
    found["memory"] = exchange.report.get("memory", "")
    world.meet([], "a check")
    exchange.close()
    every = world.gather(found, "a check")
    worst = max(every, key=lambda one: one["error"])
    return worst | {"exact": all(one["exact"] for one in every)}


def main() -> None:
    world = open_world(120.0)
    kind = sys.argv[1]
    index = "" if kind == "cpu" else f":{world.local_rank % accelerator.count()}"
    device = torch.device(kind + index)
    if accelerator.is_one(device):
        accelerator.use(device)
    results: dict[str, Any] = {"library": world.library}
    for text in (*WAYS, *LOSSY):
        try:
            results[text] = tried(text, world, device)
        except UserError as error:
            results[text] = {"refused": str(error)}
    if world.rank == 0:
        print("RESULT " + json.dumps(results), flush=True)
    world.meet([], "the end")
    world.close()


if __name__ == "__main__":
    main()
