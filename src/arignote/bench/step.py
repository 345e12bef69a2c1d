"""The workers of `arignote bench step`: whole training steps, in one run.

    arignote            our path: arignote.attach and its step
    ddp                 DistributedDataParallel over gloo and the optimizer, as its users set it up
    forward_backward    neither exchange nor update, all workers at once
    one_worker          one worker alone on the machine, the others asleep: no exchange

All have the same module, the same batch a worker, SGD with momentum 0.9, the same threads.

python -m arignote.bench.step REQUEST
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from arignote.bench.entry import progress, serve
from arignote.bench.peers import join_gloo, least_wire_bytes, leave_gloo
from arignote.bench.request import StepRequest
from arignote.bench.rows import Row, median_and_spread
from arignote.bench.timing import line_up, sleep, slowest, wake
from arignote.comm.base import World
from arignote.config.exchange_options import AUTO
from arignote.config.model_source import find_model
from arignote.config.settings import Settings
from arignote.data.base import Batch, Dataset
from arignote.errors import UserError
from arignote.frameworks.seeds import seed_build
from arignote.models.base import Model
from arignote.trainer.attach import Attached, attach

_BLOCK = 5
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
    serve(request.settings, lambda settings, crew: measure(request, settings, crew.workers))


def measure(request: StepRequest, settings: Settings, world: World) -> Iterator[Row]:
    """All kinds, in turns by blocks of steps."""
    shop = _Shop(settings, world)
    ours = shop.ours()
    loops = [ours.loop]
    store = join_gloo(world) if "ddp" in request.peers else None
    if store is not None:
        loops.append(shop.ddp())
    loops += shop.plain()
    progress(world, f"{shop.parameters:,} parameters, {request.steps} steps of each kind")
    for start in range(0, request.steps, _BLOCK):
        for loop in loops:
            _block(loop, min(_BLOCK, request.steps - start), world)
    for loop in loops:
        yield _row(loop, shop.parameters, settings.train.batch_size, ours, world)
    ours.attached.close()
    if store is not None:
        leave_gloo(world)


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


def _row(loop: Loop, parameters: int, batch_size: int, ours: _Ours, world: World) -> Row:
    times = world.gather(loop.seconds, _WHAT)[0] if loop.alone else slowest(loop.seconds, world)
    median, spread = median_and_spread(times)
    workers = 1 if loop.alone else world.size
    sent = max(world.gather(sum(loop.wire_bytes) // max(len(loop.wire_bytes), 1), _WHAT))
    return Row(
        loop.name,
        parameters,
        workers,
        median,
        spread,
        sent,
        chosen=ours.chosen if loop is ours.loop else None,
        samples_per_second=workers * batch_size / median,
    )


@dataclass
class _Ours:
    """Our loop, and what it holds."""

    loop: Loop
    attached: Attached
    chosen: str | None


class _Shop:
    """Makes the loops; each has a module of its own, with the same weights."""

    def __init__(self, settings: Settings, world: World) -> None:
        self._settings = settings
        self._world = world
        self._class = find_model(settings.run.model).load()
        if not (isinstance(self._class, type) and issubclass(self._class, Model)):
            raise UserError(
                f"model {settings.run.model} is no arignote.Model (a PyTorch module): only those "
                "can be run by DistributedDataParallel too"
            )
        seed_build(settings.run.seed)
        model = self._class()
        model.settings = settings
        self._dataset: Dataset = model.data()
        batch_size = settings.train.batch_size
        indices = world.rank * batch_size + np.arange(batch_size, dtype=np.int64)
        self._batch: Batch = self._dataset.train_batch(
            indices % self._dataset.train_size, seed=settings.run.seed, epoch=0
        )
        self.parameters = 0

    def _model(self) -> Model:
        seed_build(self._settings.run.seed)
        model: Model = self._class()
        model.settings = self._settings
        model.dataset = self._dataset
        model.module = model.build()
        model.module.train()
        self.parameters = sum(p.numel() for p in model.module.parameters() if p.requires_grad)
        return model

    def _forward_backward(self, model: Model) -> None:
        model.loss(self._batch).backward()  # type: ignore[no-untyped-call]

    def ours(self) -> _Ours:
        """`rule` and `exchange` are the settings'."""
        model, run = self._model(), self._settings.run
        attached = attach(
            model.module,
            _optimizer(model.module),
            rule=run.rule,
            exchange=run.exchange,
            timeout_seconds=self._world.timeout_seconds,
        )

        def step() -> int:
            before = attached.recorder.wire_bytes
            samples = len(self._batch.targets)
            attached.zero_grad()
            loss = model.loss(self._batch)
            attached.begin(samples)
            loss.backward()  # type: ignore[no-untyped-call]
            attached.step(samples=samples)
            return attached.recorder.wire_bytes - before

        chosen = attached._rule.exchange.name if run.exchange == AUTO else None
        return _Ours(Loop("arignote", step), attached, chosen)

    def ddp(self) -> Loop:
        """Gradients are views of DDP's buckets, which saves it a copy."""
        model = self._model()
        model.module = DistributedDataParallel(model.module, gradient_as_bucket_view=True)
        optimizer = _optimizer(model.module)
        sent = least_wire_bytes(self.parameters, self._world.size)

        def step() -> int:
            optimizer.zero_grad()
            self._forward_backward(model)
            optimizer.step()
            return sent

        return Loop("ddp", step)

    def plain(self) -> list[Loop]:
        """Without any exchange; both use one module."""
        model = self._model()
        optimizer = _optimizer(model.module)

        def forward_backward() -> int:
            optimizer.zero_grad()
            self._forward_backward(model)
            return 0

        def whole() -> int:
            forward_backward()
            optimizer.step()
            return 0

        return [
            Loop("forward_backward", forward_backward, free=True),
            Loop("one_worker", whole, alone=True),
        ]


def _optimizer(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), lr=_RATE, momentum=0.9)


if __name__ == "__main__":
    given: dict[str, Any] = json.loads(sys.argv[1])
    main(StepRequest(**given))
