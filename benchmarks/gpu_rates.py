"""What exchanges on GPUs reach of what the machine can; `scripts/test-gpu` starts it and reports.

    arignote run -n 2 benchmarks/gpu_rates.py cuda

Medians of ROUNDS; two workers, on one GPU if there is one only. Rank 0 prints a line of JSON:

    copy_seconds      the vector from the device to pinned memory and back, both ways at once
    device_seconds    a copy of it on the device, by both workers at once
    way: seconds      an exchange of it; host_asa_seconds: of vectors that are in host memory anyway
    calc, ...         a step of BSP: without exchange, with it after backward, and beside backward
    plain, attached   a step of one worker: torch alone, and with `arignote.attach`'s parts
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from arignote import accelerator
from arignote.comm.base import World
from arignote.comm.open import open_world
from arignote.comm.serial import SerialWorld
from arignote.config.rule_options import parse_rule
from arignote.errors import UserError
from arignote.exchange.open import open_exchange
from arignote.exchange.staging import CHUNK, Staging
from arignote.frameworks.torch_replica import TorchReplica
from arignote.rules.base import Bring
from arignote.rules.bsp import BSP
from arignote.trainer.device_defaults import recorder_for

ROUNDS = 15
ELEMENTS = {"cuda": 64 << 20, "cpu": 3 << 20}
"""Of the vector: 256 MiB; on a CPU, where only this program itself is tried, little."""
LAYERS, WIDTH, BATCH = 12, 2048, 4096
_WHAT = "a round of the bench"


class Bench:
    """One worker's part."""

    def __init__(self, world: World, kind: str) -> None:
        self.world = world
        self.on_gpu = kind != "cpu"
        index = f":{world.local_rank % accelerator.count()}" if self.on_gpu else ""
        self.device = torch.device(kind + index)
        if self.on_gpu:
            accelerator.use(self.device)
        self.elements = ELEMENTS[kind]
        self.rounds = ROUNDS if self.on_gpu else 2

    def settle(self) -> None:
        """Wait for the device."""
        if self.on_gpu:
            accelerator.settle(self.device)

    def seconds(self, work: Callable[[], object], world: World | None = None) -> float:
        """The median time of `work` on the slower worker, all beginning at once."""
        world, times = world or self.world, []
        for _ in range(self.rounds + 2):
            self.settle()
            world.meet([], _WHAT)
            begun = time.perf_counter()
            work()
            self.settle()
            times.append(time.perf_counter() - begun)
        return float(max(world.gather(median(times[2:]), _WHAT)))

    def copies(self) -> dict[str, float]:
        """What the bus and the device can do."""
        vector = torch.zeros(self.elements, device=self.device)
        other = torch.zeros_like(vector)
        staging = Staging(self.device)

        def nothing(chunk: torch.Tensor, part: slice) -> int:
            return 0

        return {
            "copy_seconds": self.seconds(
                lambda: staging.through(vector, vector.dtype, nothing, cuts=True)
            ),
            "device_seconds": self.seconds(lambda: other.copy_(vector)),
        }

    def ways(self) -> dict[str, Any]:
        """An exchange by each route."""
        found: dict[str, Any] = {}
        places = [(way, self.device) for way in ("asa", "shm", "allreduce", "ipc", "nccl")]
        for way, device in (*places, ("host_asa", torch.device("cpu"))):
            try:
                exchange = open_exchange(f"{way.removeprefix('host_')}:fp32", self.world, device)
                vector = exchange.route.allocate(self.elements, torch.float32, device)
                exchange.prepare([vector], [[vector.shape]])
            except UserError as error:
                found[way] = str(error)
                continue

            def round_(way: Any = exchange, vector: torch.Tensor = vector) -> None:
                if way.route.needs_meeting:
                    self.world.meet([], _WHAT)
                way.mean_(vector, what=_WHAT)

            found[f"{way}_seconds"] = self.seconds(round_)
            found[f"{way}_memory"] = exchange.report.get("memory", "")
            exchange.close()
        return found

    def module(self) -> nn.Module:
        """A perceptron whose backward takes about as long as a good exchange of its gradients."""
        width = WIDTH if self.on_gpu else 256
        layers = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(LAYERS)]
        return nn.Sequential(*layers).to(self.device)

    def batch(self) -> torch.Tensor:
        """Inputs, which are the targets too."""
        shape = (BATCH, WIDTH) if self.on_gpu else (64, 256)
        return torch.randn(shape, device=self.device)

    def step_by(self, world: World, exchange: str, rule_text: str) -> float:
        """Seconds of a step of BSP over `world`."""
        module, batch = self.module(), self.batch()
        way = open_exchange(exchange, world, self.device)
        _, options = parse_rule(rule_text)
        rule = BSP(options, world, way, recorder_for(self.device))
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
        replica = TorchReplica(module, optimizer, allocate=way.route.allocate)
        rule.start(replica)

        def step() -> None:
            replica.zero_grad()
            loss = (module(batch) - batch).square().mean()
            replica.begin(1.0)
            loss.backward()
            rule.step(replica, Bring(samples=1.0, loss=float(loss.detach())))

        found = self.seconds(step)
        rule.finish(replica)
        return found

    def plain(self, *, every_worker: bool) -> float:
        """Seconds of a step of torch alone; of the first worker, unless all do it at once."""
        module, batch = self.module(), self.batch()
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)

        def step() -> None:
            if every_worker or self.world.rank == 0:
                optimizer.zero_grad()
                loss = (module(batch) - batch).square().mean()
                loss.backward()
                optimizer.step()
                float(loss.detach())

        return self.seconds(step)

    def steps(self) -> dict[str, Any]:
        """Steps of all workers, then of one."""
        asa = "asa:fp32"
        found: dict[str, Any] = {
            "calc": self.plain(every_worker=True),
            "after": self.step_by(self.world, asa, "bsp:sharded=off,overlap=off"),
            "beside": self.step_by(self.world, asa, "bsp:sharded=off,overlap=on"),
            "plain": self.plain(every_worker=False),
        }
        alone: list[float] = []
        if self.world.rank == 0:
            other = Bench(SerialWorld(), self.device.type)
            alone = [other.step_by(other.world, asa, "bsp")]
        found["attached"] = self.world.gather(alone, _WHAT)[0][0]
        return found


def main() -> None:
    """Measure, and print what was found."""
    bench = Bench(open_world(300.0), sys.argv[1])
    found = {
        "library": bench.world.library,
        "workers": bench.world.size,
        "elements": bench.elements,
        "chunk": CHUNK,
        **bench.copies(),
        **bench.ways(),
        **bench.steps(),
    }
    if bench.world.rank == 0:
        sys.stdout.write("RATES " + json.dumps(found) + "\n")
        sys.stdout.flush()
    bench.world.meet([], "the end")
    bench.world.close()


if __name__ == "__main__":
    main()
