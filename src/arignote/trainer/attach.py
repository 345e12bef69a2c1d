"""The replica for a loop that a user already has: `arignote.attach`.

    replica = arignote.attach(module, optimizer)
    batches = replica.batches(len(data), batch_size=32)
    for epoch in range(epochs):
        for inputs, targets in DataLoader(data, batch_sampler=batches):
            optimizer.zero_grad()
            loss(module(inputs), targets).backward()
            replica.step(samples=len(targets))          # instead of optimizer.step()

Started with `arignote run -n 2 script.py`, or with mpirun or srun; alone, it is one worker.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch
from torch import nn

from arignote import control, failure
from arignote.comm.base import World
from arignote.comm.open import open_world
from arignote.config.rule_options import parse_rule
from arignote.data.sharding import epoch_order, never_empty_batches
from arignote.errors import ArignoteError, UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.torch_replica import TorchReplica
from arignote.orphan import die_with_parent
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule


class Batches:
    """This worker's batches of sample indices: a `batch_sampler` for torch's DataLoader.

    Every iteration is an epoch of its own order. All workers have the same number of batches
    and none is empty; together they hold each sample exactly once.
    """

    def __init__(self, samples: int, batch_size: int, *, seed: int, world: World) -> None:
        if samples < world.size:
            raise UserError(
                f"{world.size} workers but only {samples} samples: use at most {samples} workers"
            )
        if batch_size < 1:
            raise UserError(f"got batch_size {batch_size}, expected at least 1")
        self._samples, self._batch_size = samples, batch_size
        self._seed, self._world = seed, world
        self.epoch = 0

    def _lists(self, epoch: int) -> list[list[int]]:
        order = epoch_order(self._samples, seed=self._seed, epoch=epoch)
        own = never_empty_batches(
            order, batch_size=self._batch_size, rank=self._world.rank, workers=self._world.size
        )
        return [batch.tolist() for batch in own]

    def __len__(self) -> int:
        return len(self._lists(self.epoch))

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._lists(self.epoch)
        self.epoch += 1


class Attached:
    """A module and its optimizer as one worker of a run; made by `attach`."""

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        rule: str,
        exchange: str,
        clip_norm: float,
        timeout_seconds: float,
    ) -> None:
        name, options = parse_rule(rule)
        self._world = open_world(timeout_seconds)
        self.recorder = Recorder()
        """Seconds by phase, steps and bytes of this worker."""
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        way = open_exchange(exchange, self._world, device)
        self._replica = TorchReplica(
            module, optimizer, allocate=way.route.allocate, clip_norm=clip_norm
        )
        self._rule: Rule = RULES.load(name)(options, self._world, way, self.recorder)
        self._closed = False
        if self._world.size > 1:
            sys.excepthook = self._fail
            atexit.register(self.close)
        self._rule.start(self._replica)
        self.recorder.start()

    @property
    def rank(self) -> int:
        """This worker's number, 0 <= rank < size."""
        return self._world.rank

    @property
    def size(self) -> int:
        """Number of workers."""
        return self._world.size

    @property
    def local_rank(self) -> int:
        """This worker's number on its host."""
        return self._world.local_rank

    def zero_grad(self) -> None:
        """Zero the gradients in place; saves the copy that optimizer.zero_grad() costs."""
        self._replica.zero_grad()

    def begin(self, samples: float = 1) -> None:
        """Optional, just before the last backward of a step: exchange while it still runs.

        Without it (or where overlap is off) the exchange takes place in `step`; so backward may
        run several times before, to accumulate gradients. From here to `step`, leave the
        gradients alone: they may be on their way (clip with `attach(clip_norm=...)`).

        Args:
            samples: as `step` will be told.
        """
        self._replica.begin(samples)

    def step(self, samples: float = 1, loss: float | None = None) -> None:
        """One update, exchanged as the rule says; call it after backward.

        Args:
            samples: the size of this worker's batch, its weight in the average.
            loss: its mean loss, if you want a NaN to end the run by name.

        Raises:
            LostWorkerError: a worker did not come in time.
            NotANumberError: a worker's loss is no number.
            UserError: a worker has ended its loop already.
        """
        self._rule.step(self._replica, Bring(samples=samples, loss=loss))
        self.recorder.steps += 1

    def batches(self, samples: int, batch_size: int, *, seed: int = 0) -> Batches:
        """This worker's share of a data set of `samples`, `batch_size` a worker a step."""
        return Batches(samples, batch_size, seed=seed, world=self._world)

    def mean(self, value: float, samples: float = 1) -> float:
        """The mean of `value` over the workers, weighted by `samples`; collective."""
        total, weight = self._world.meet([value * samples, samples], "a mean").tolist()
        return float(total / weight) if weight else float("nan")

    def optimizer_state(self) -> dict[str, Any]:
        """The whole state dict of the optimizer, to save; collective.

        Where the update is shared out, the optimizer's own `state_dict()` holds no state: each
        worker keeps its share. A whole one is taken back by `optimizer.load_state_dict`.
        """
        state: dict[str, Any] = self._replica.optimizer_state()["optimizer"]
        return state

    def consensus(self) -> AbstractContextManager[None]:
        """Inside it the module holds the weights to validate and save; collective."""
        return self._rule.consensus(self._replica)

    def close(self) -> None:
        """Leave the run in good order; happens by itself when the script ends."""
        if self._closed:
            return
        self._closed = True
        try:
            self._rule.finish(self._replica)
            self._world.close()
        except ArignoteError as error:
            failure.leave(error, self.rank)

    def _fail(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """An uncaught exception on one worker must not leave the others waiting for it."""
        failure.leave(error.with_traceback(trace), self.rank)


def attach(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    rule: str = "bsp",
    exchange: str = "auto",
    clip_norm: float = 0.0,
    timeout_seconds: float = 300.0,
) -> Attached:
    """Make `module` and `optimizer` one worker of a run.

    Rank 0's weights become everybody's. From then on call `step` on the result instead of
    on the optimizer.

    Args:
        rule: when workers exchange, as in `--rule`.
        exchange: how, as in `--exchange`.
        clip_norm: clip the averaged gradient to this 2-norm; 0: off.
        timeout_seconds: how long to wait for other workers before an error names them.

    Raises:
        UserError: an unknown rule or exchange, or a module that cannot be trained.
    """
    if control.CONTROL_VARIABLE in os.environ:
        die_with_parent()
    return Attached(
        module,
        optimizer,
        rule=rule,
        exchange=exchange,
        clip_norm=clip_norm,
        timeout_seconds=timeout_seconds,
    )
