"""Which samples each part of a step has, and which come next, as far as that can be foreseen."""

from __future__ import annotations

from collections.abc import Iterator

from arignote.comm.base import World
from arignote.config.rule_options import parse_rule
from arignote.config.settings import Settings
from arignote.data.sharding import (
    Indices,
    epoch_order,
    global_batch,
    shared_slice,
    steps_left,
    worker_batch,
)
from arignote.trainer.balance import Balance


class Parts:
    """The parts of all steps of a run, for one worker."""

    def __init__(self, settings: Settings, world: World, train_size: int) -> None:
        self._settings = settings
        self._workers = world.size
        self._train_size = train_size
        self._orders: dict[int, Indices] = {}
        """Of this epoch, and of the next once it comes near."""
        self._in_step = not parse_rule(settings.run.rule)[1].asynchronous
        self._foreseen: tuple[int, Indices] | None = None
        self.balance = Balance(world) if settings.train.balance else None

    @property
    def most_samples(self) -> int:
        """That a part may have."""
        batch_size = self._settings.train.batch_size
        return batch_size if self.balance is None else batch_size * self._workers

    def start_epoch(self, epoch: int, consumed: int) -> int:
        """Forget the epochs before; the steps that remain after `consumed` samples."""
        self._orders = {e: order for e, order in self._orders.items() if e == epoch}
        return steps_left(
            self._train_size,
            consumed=consumed,
            batch_size=self._settings.train.batch_size,
            workers=self._workers,
        )

    def after(self, consumed: int, steps: int) -> int:
        """In samples: a step takes the next global batch, which is shorter at the end."""
        samples = steps * self._settings.train.batch_size * self._workers
        return min(consumed + samples, self._train_size)

    def order(self, epoch: int) -> Indices:
        """All samples, as the epoch has them."""
        if epoch not in self._orders:
            seed = self._settings.run.seed
            self._orders[epoch] = epoch_order(self._train_size, seed=seed, epoch=epoch)
        return self._orders[epoch]

    def indices(self, epoch: int, consumed: int, part: int) -> Indices:
        """The samples of one part of the step that begins after `consumed`; may be empty."""
        cut = {
            "consumed": consumed,
            "batch_size": self._settings.train.batch_size,
            "workers": self._workers,
        }
        if self.balance is None:
            return worker_batch(self.order(epoch), rank=part, **cut)
        batch = global_batch(self.order(epoch), **cut)
        return batch[shared_slice(len(batch), rank=part, shares=self.balance.shares)]

    def foresee(self, epoch: int, consumed: int, part: int) -> None:
        """Workers that take any part know at most their next one, and only when it is taken."""
        self._foreseen = (epoch, self.indices(epoch, consumed, part))

    def upcoming(self, epoch: int, consumed: int, part: int) -> Iterator[tuple[int, Indices]]:
        """(epoch, samples) of what comes after this part; none of them empty."""
        if not self._in_step:
            foreseen, self._foreseen = self._foreseen, None
            if foreseen is not None and len(foreseen[1]):
                yield foreseen
            return
        while True:
            consumed = self.after(consumed, 1)
            if consumed >= self._train_size:
                epoch, consumed = epoch + 1, 0
            if epoch >= self._settings.train.epochs:
                return
            indices = self.indices(epoch, consumed, part)
            if len(indices):
                yield epoch, indices
