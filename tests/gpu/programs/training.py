"""BSP on a GPU, exchanged after backward and beside it, by several routes; rank 0 prints JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from torch import nn

from arignote import accelerator
from arignote.checkpoint.digest import weights_sha256
from arignote.comm.base import World
from arignote.comm.open import open_world
from arignote.config.rule_options import parse_rule
from arignote.errors import UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.torch_replica import TorchReplica
from arignote.rules.base import Bring
from arignote.rules.bsp import BSP
from arignote.trainer.device_defaults import recorder_for

STEPS, WIDTH, LAYERS = 10, 640, 8
"""Three million parameters: three buckets of an overlapped exchange."""


def trained(world: World, device: torch.device, exchange: str, overlap: str) -> dict[str, Any]:
    """Digest of the weights, and where the seconds went."""
    torch.manual_seed(1)
    layers = [nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(LAYERS)]
    module = nn.Sequential(*layers).to(device)
    way = open_exchange(exchange, world, device)
    recorder = recorder_for(device)
    _, options = parse_rule(f"bsp:sharded=off,overlap={overlap}")
    rule = BSP(options, world, way, recorder)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    replica = TorchReplica(module, optimizer, allocate=way.route.allocate)
    rule.start(replica)
    begun = time.perf_counter()
    for step in range(STEPS):
        recorder.start()
        generator = torch.Generator().manual_seed(100 * step + world.rank)
        batch = torch.randn(64, WIDTH, generator=generator).to(device)
        recorder.end("wait")
        replica.zero_grad()
        loss = (module(batch) - batch).square().mean()
        replica.begin(64.0)
        loss.backward()
        rule.step(replica, Bring(samples=64.0, loss=float(loss.detach())))
    seconds = recorder.state_dict()["seconds"]
    wall = time.perf_counter() - begun
    rule.finish(replica)
    return {"sha256": weights_sha256(replica.named_tensors()), "seconds": seconds, "wall": wall}


def main() -> None:
    world = open_world(120.0)
    kind = sys.argv[1]
    index = "" if kind == "cpu" else f":{world.local_rank % accelerator.count()}"
    device = torch.device(kind + index)
    if accelerator.is_one(device):
        accelerator.use(device)
    results: dict[str, Any] = {}
    for exchange in ("asa:fp32", "shm:fp32", "ipc:fp32"):
        for overlap in ("off", "on"):
            try:
                results[f"{exchange} {overlap}"] = trained(world, device, exchange, overlap)
            except UserError as error:
                results[f"{exchange} {overlap}"] = {"refused": str(error)}
    if world.rank == 0:
        print("RESULT " + json.dumps(results), flush=True)
    world.meet([], "the end")
    world.close()


if __name__ == "__main__":
    main()
