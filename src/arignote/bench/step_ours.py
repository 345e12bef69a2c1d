"""Our entrant of `arignote bench step`: a step of `arignote train`, without the loop around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from arignote.comm.crew import Crew
from arignote.config.exchange_options import AUTO
from arignote.config.rule_options import parse_rule
from arignote.config.settings import Settings
from arignote.data.base import Batch
from arignote.data.sharding import Indices
from arignote.errors import UserError
from arignote.exchange.open import open_exchange
from arignote.models.base import Model
from arignote.recorder.phases import Recorder
from arignote.registry import RULES
from arignote.rules.base import Rule
from arignote.trainer.feed import Feed, LoadingFacts
from arignote.trainer.torch_task import TorchTask

CPU = torch.device("cpu")


class OneBatchFeed(Feed):
    """The first batch of another feed, again and again: what loading costs is left out."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.batch: Batch | None = None
        """None: nobody asked yet."""

    @property
    def facts(self) -> LoadingFacts:
        """Of the other one."""
        return self._feed.facts

    def train(self, epoch: int, indices: Indices) -> Batch:
        """See `Feed.train`."""
        if self.batch is None:
            self.batch = self._feed.train(epoch, indices)
        return self.batch

    def validation(self, batches: Sequence[Indices]) -> Iterator[Batch]:
        """See `Feed.validation`."""
        return self._feed.validation(batches)

    def close(self) -> None:
        """See `Feed.close`."""
        self._feed.close()


class Ours:
    """One worker; after the first step `batch` is what it trains on.

    Raises:
        UserError: the data has fewer samples than a step takes.
    """

    def __init__(self, model: Model, settings: Settings, crew: Crew) -> None:
        world = crew.workers
        exchange = open_exchange(settings.run.exchange, world, CPU)
        self.task = TorchTask(model, settings, world, exchange.route, CPU)
        size, there = settings.train.batch_size, self.task.train_size
        if size * world.size > there:
            raise UserError(
                f"a step takes {world.size} x {size} samples, but the data has {there}: use "
                f"--batch-size {there // world.size} or less"
            )
        self.task.feed = self._feed = OneBatchFeed(self.task.feed)
        self._recorder, self._rank = Recorder(), world.rank
        name, options = parse_rule(settings.run.rule)
        self._rule: Rule = RULES.load(name)(
            options, world, exchange, self._recorder, crew=crew, seed=settings.run.seed
        )
        self._rule.start(self.task.replica)
        self.chosen = exchange.name if settings.run.exchange == AUTO else None
        """What auto chose."""

    @property
    def batch(self) -> Batch:
        """As it was loaded, not yet placed."""
        assert self._feed.batch is not None
        return self._feed.batch

    def step(self) -> int:
        """One update; the bytes that this worker sent."""
        recorder = self._recorder
        before = recorder.wire_bytes
        recorder.start()
        bring = self.task.train(0, 0, self._rank, recorder)
        self._rule.step(self.task.replica, bring)
        recorder.steps += 1
        return recorder.wire_bytes - before

    def close(self) -> None:
        """Leave in good order."""
        self._rule.finish(self.task.replica)
        self.task.close()
