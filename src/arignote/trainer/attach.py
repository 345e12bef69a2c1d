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
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import torch
from torch import nn

from arignote import control, failure
from arignote.comm.counter import Counter, open_counter
from arignote.comm.crew import Crew
from arignote.comm.open import open_crew
from arignote.config.exchange_options import check_fits_rule, parse_exchange
from arignote.config.rule_options import parse_rule
from arignote.errors import ArignoteError, UserError
from arignote.exchange.open import open_exchange
from arignote.frameworks.torch_replica import TorchReplica
from arignote.log import logger
from arignote.orphan import die_with_parent
from arignote.registry import RULES
from arignote.rules.base import Bring, Rule
from arignote.rules.visitor import serve
from arignote.trainer.batches import Batches
from arignote.trainer.device_defaults import recorder_for


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
        seed: int,
    ) -> None:
        name, options = parse_rule(rule)
        crew = open_crew(timeout_seconds)
        self._crew, self._world = crew, crew.workers
        if crew.whole.size > 1:
            sys.excepthook = self._fail
        _check_servers(crew, name, centre=options.has_centre)
        if crew.is_server:
            serve(crew)
            crew.whole.close()
            sys.exit(0)
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        self.recorder = recorder_for(device)
        """Seconds by phase, steps and bytes of this worker."""
        way = open_exchange(exchange, self._world, device)
        self._replica = TorchReplica(
            module, optimizer, allocate=way.route.allocate, clip_norm=clip_norm
        )
        check_fits_rule(parse_exchange(exchange), name, options.carries)
        self._rule: Rule = RULES.load(name)(
            options, self._world, way, self.recorder, crew=crew, seed=seed
        )
        self._asynchronous = options.asynchronous
        self._counters: list[Counter] = []
        self._closed = False
        if crew.whole.size > 1:
            atexit.register(self.close)
        self._rule.start(self._replica)
        for remark in self._rule.remarks if self.rank == 0 else ():
            logger.warning(remark)
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
        """This worker's share of a data set of `samples`, `batch_size` a worker a step.

        Collective with an asynchronous rule; to be made once, before the first epoch.
        """
        counter = open_counter(self._world) if self._asynchronous else None
        if counter is not None:
            self._counters.append(counter)
        return Batches(samples, batch_size, seed=seed, world=self._world, counter=counter)

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
            for counter in self._counters:
                counter.close()
            self._crew.whole.close()
        except ArignoteError as error:
            failure.leave(error, self._crew.whole.rank)

    def _fail(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """An uncaught exception on one worker must not leave the others waiting for it."""
        failure.leave(error.with_traceback(trace), self._crew.whole.rank)


def _check_servers(crew: Crew, rule: str, *, centre: bool) -> None:
    """Servers wait for a rule that has a centre; without one they would wait for ever."""
    if crew.servers and not centre:
        count = "1 server" if crew.servers == 1 else f"{crew.servers} servers"
        raise UserError(
            f"{count}, but {rule} has no centre: use --servers 0, or attach with "
            "rule='easgd' or 'asgd'"
        )


def attach(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    rule: str = "bsp",
    exchange: str = "auto",
    clip_norm: float = 0.0,
    timeout_seconds: float = 300.0,
    seed: int = 0,
) -> Attached:
    """Make `module` and `optimizer` one worker of a run.

    Rank 0's weights become everybody's. From then on call `step` on the result instead of
    on the optimizer.

    Args:
        rule: when workers exchange, as in `--rule`.
        exchange: how, as in `--exchange`.
        clip_norm: clip the averaged gradient to this 2-norm; 0: off.
        timeout_seconds: how long to wait for other workers before an error names them.
        seed: what the rule draws (partners) comes from it; give all workers the same.

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
        seed=seed,
    )
