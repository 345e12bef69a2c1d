"""The workers of `arignote bench step`: whole training steps, in one run.

    arignote            a step of `arignote train`, with all that it records
    ddp                 DistributedDataParallel over gloo and the optimizer, as its users set it up
    forward_backward    neither exchange nor update, all workers at once
    one_worker          a plain loop, one worker alone on the machine, the others asleep

All have the same module, the same batch a worker in the same order in memory, the model's own
optimizer (of which those without exchange have what is fastest) and the same threads. The batch
is loaded once: what loading costs is another bench.

python -m arignote.bench.step REQUEST
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from arignote.bench.entry import progress, serve
from arignote.bench.peers import join_gloo, least_wire_bytes, leave_gloo
from arignote.bench.request import StepRequest
from arignote.bench.rows import Row, median_and_spread
from arignote.bench.step_ours import CPU, Ours
from arignote.bench.timing import line_up, sleep, slowest, wake
from arignote.comm.base import World
from arignote.comm.crew import Crew
from arignote.config.model_source import find_model
from arignote.config.settings import Settings
from arignote.errors import UserError
from arignote.frameworks.seeds import seed_build
from arignote.loading.pool import Want
from arignote.models.base import Model
from arignote.trainer.device_defaults import wants_channels_last, with_device_defaults
from arignote.trainer.placing import Placing

_BLOCK = 2
"""Steps of one kind in a row; one more before them does not count."""
_WHAT = "a block of steps of the bench"
_RATE = 1e-4
"""Small: a batch that comes again and again must not be learnt until gradients vanish."""


@dataclass
class Loop:
    """One kind of step."""

    name: str
    step: Callable[[], int]
    """Returns the bytes that this worker sent."""
    alone: bool = False
    """Only rank 0 does it, while the others sleep."""
    free: bool = False
    """Nothing in it keeps the workers together, so they meet before each step."""
    seconds: list[float] = field(default_factory=list)
    wire_bytes: list[int] = field(default_factory=list)


def main(request: StepRequest) -> None:
    """Be one worker."""
    serve(request.settings, lambda settings, crew: measure(request, settings, crew))


def measure(request: StepRequest, settings: Settings, crew: Crew) -> Iterator[Row]:
    """All kinds, in turns by blocks of steps."""
    world = crew.workers
    store = join_gloo(world) if "ddp" in request.peers else None
    yield from _race(request, settings, crew)
    if store is not None:
        # The bad story of the order: 1. DDP's reducer is the last that holds the group, and
        # Python frees it, 2. which waits for the group's thread, holding the interpreter's lock,
        # 3. and the thread waits for that lock, to let go of its last sum.
        gc.collect()
        leave_gloo(world)


def _race(request: StepRequest, settings: Settings, crew: Crew) -> Iterator[Row]:
    """When it is over, no loop is left."""
    world = crew.workers
    shop = Shop(settings, crew)
    ours = shop.ours
    ours.step()
    loops = [Loop("arignote", ours.step)]
    if "ddp" in request.peers:
        loops.append(shop.ddp())
    loops += shop.plain()
    progress(world, f"{shop.parameters:,} parameters, {request.steps} steps of each kind")
    for number, start in enumerate(range(0, request.steps, _BLOCK)):
        # Each kind comes after every other one: what one leaves in the caches hits all alike.
        first = number % len(loops)
        for loop in (*loops[first:], *loops[:first]):
            _block(loop, min(_BLOCK, request.steps - start), world)
    times = {loop.name: _times(loop, world) for loop in loops}
    for loop in loops:
        yield _row(loop, times, shop.parameters, settings.train.batch_size, ours, world)
    ours.close()


def _block(loop: Loop, steps: int, world: World) -> None:
    line_up(world)
    if loop.alone and world.rank:
        sleep(world)
        return
    loop.step()
    for _ in range(steps):
        if loop.free:
            line_up(world)
        start = time.perf_counter()
        sent = loop.step()
        loop.seconds.append(time.perf_counter() - start)
        loop.wire_bytes.append(sent)
    if loop.alone:
        wake(world)


def _times(loop: Loop, world: World) -> list[float]:
    """Of each step, the slowest worker's; the same on all workers."""
    return world.gather(loop.seconds, _WHAT)[0] if loop.alone else slowest(loop.seconds, world)


def _row(
    loop: Loop,
    times: Mapping[str, Sequence[float]],
    parameters: int,
    batch_size: int,
    ours: Ours,
    world: World,
) -> Row:
    middle, spread = median_and_spread(times[loop.name])
    workers = 1 if loop.alone else world.size
    sent = max(world.gather(sum(loop.wire_bytes) // max(len(loop.wire_bytes), 1), _WHAT))
    return Row(
        loop.name,
        parameters,
        workers,
        middle,
        spread,
        sent,
        chosen=ours.chosen if loop.name == "arignote" else None,
        samples_per_second=workers * batch_size / middle,
        ratios={name: _ratio(times[loop.name], others) for name, others in times.items()},
    )


def _ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Block by block, whose steps were made within seconds of each other; the median."""
    starts = range(0, len(times), _BLOCK)
    return median(
        sum(times[start : start + _BLOCK]) / sum(others[start : start + _BLOCK]) for start in starts
    )


class Shop:
    """Makes the loops; each has a module of its own, with the same weights."""

    def __init__(self, settings: Settings, crew: Crew) -> None:
        self._class = find_model(settings.run.model).load()
        if not (isinstance(self._class, type) and issubclass(self._class, Model)):
            raise UserError(
                f"model {settings.run.model} is no arignote.Model (a PyTorch module): only those "
                "can be run by DistributedDataParallel too"
            )
        slow = settings.optimizer.model_copy(update={"learning_rate": _RATE})
        self._settings = settings.model_copy(update={"optimizer": slow})
        self.ours = Ours(self._class(), self._settings, crew)
        self.parameters = sum(vector.numel() for vector in self.ours.task.replica.parameters)
        self._world = crew.workers

    def _plain_model(self) -> tuple[Model, Callable[[], None]]:
        """As one would write it by hand, for one worker; and what computes its gradients."""
        settings = with_device_defaults(self._settings, CPU, workers=1)
        seed_build(settings.run.seed)
        model: Model = self._class()
        model.settings, model.dataset = settings, self.ours.task.dataset
        model.module = model.build().train()
        if settings.train.compile:
            model.module.compile()
        last = wants_channels_last(settings, model.module)
        placing = Placing(CPU, double=False, channels_last=last)

        def forward_backward() -> None:
            batch = self.ours.batch
            want = Want("train", 0, np.arange(len(batch.targets)))
            loss = model.loss(placing.place(batch, want))
            loss.backward()  # type: ignore[no-untyped-call]
            # A loop that prints a loss, or stops at NaN, reads it.
            loss.item()

        return model, forward_backward

    def ddp(self) -> Loop:
        """Gradients are views of DDP's buckets, which saves it a copy."""
        model, compute = self._plain_model()
        optimizer = _optimizer(model)
        model.module = DistributedDataParallel(model.module, gradient_as_bucket_view=True)
        sent = least_wire_bytes(self.parameters, self._world.size)

        def step() -> int:
            optimizer.zero_grad()
            compute()
            optimizer.step()
            return sent

        return Loop("ddp", step)

    def plain(self) -> Sequence[Loop]:
        """Without any exchange; both use one module."""
        model, compute = self._plain_model()
        optimizer = _optimizer(model)

        def forward_backward() -> int:
            optimizer.zero_grad()
            compute()
            return 0

        def whole() -> int:
            forward_backward()
            optimizer.step()
            return 0

        return [
            Loop("forward_backward", forward_backward, free=True),
            Loop("one_worker", whole, alone=True),
        ]


def _optimizer(model: Model) -> torch.optim.Optimizer:
    return model.optimizer(p for p in model.module.parameters() if p.requires_grad)


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    main(StepRequest(**given))
