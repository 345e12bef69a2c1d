"""The loop: epochs of steps, validation, checkpoints; the same for every rule and framework."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict

from arignote.checkpoint.digest import weights_sha256
from arignote.comm.base import World
from arignote.config.settings import Settings
from arignote.recorder.phases import Recorder
from arignote.rules.base import Rule
from arignote.trainer.journal import Journal
from arignote.trainer.position import Position
from arignote.trainer.saving import Saver
from arignote.trainer.stopping import StopFlag
from arignote.trainer.task import Task
from arignote.trainer.turns import Turns


class Trainer:
    """One worker's part of a training run."""

    def __init__(
        self,
        settings: Settings,
        task: Task,
        rule: Rule,
        world: World,
        recorder: Recorder,
        journal: Journal,
        saver: Saver,
        stop: StopFlag,
        turns: Turns,
    ) -> None:
        self.settings = settings
        self.task = task
        self.rule = rule
        self.world = world
        self.recorder = recorder
        self.journal = journal
        self.saver = saver
        self.stop = stop
        self.turns = turns
        self.position = Position()

    def run(self) -> None:
        """Train from where the run stands to its end, or until it is told to stop."""
        try:
            self._run()
        finally:
            self.journal.close()

    def _run(self) -> None:
        self.rule.start(self.task.replica)
        if self.rule.exchange.report:
            self.journal.event("exchange", **self.rule.exchange.report)
        for remark in self.rule.remarks:
            self.journal.warn(remark)
        self.position = self.saver.resume() or self.position
        self.journal.begin(
            asdict(self.position),
            epochs=self.task.n_epochs,
            train_size=self.task.train_size,
            can_change_workers=self.task.can_change_workers,
            sample_name=self.task.sample_name,
        )
        if self._done() and not self.position.validation:
            # The checkpoint was saved by its step, before the validation that was due.
            self._validate()
        stopped = False
        while not stopped and not self._done():
            stopped = self._epoch()
        self._save()
        with self.rule.consensus(self.task.replica):
            digest = weights_sha256(self.task.replica.named_tensors())
        self.turns.close()
        self.rule.finish(self.task.replica)
        self._finish(digest, stopped=stopped and not self._done())

    def _done(self) -> bool:
        limit = self.settings.train.steps
        if limit and self.position.steps >= limit:
            return True
        return self.position.epoch >= self.task.n_epochs

    def _epoch(self) -> bool:
        """Train to the end of the epoch under way; whether a worker was told to stop."""
        position, stopped = self.position, False
        left = self.task.start_epoch(position.epoch, position.consumed)
        while left and not stopped and not self._done():
            made, stopped = self.turns.run(min(left, self._steps_together()), self._make)
            left -= made
            position.consumed = self.task.after(position.consumed, made)
            position.steps += made
            every = self.settings.checkpoint.every_steps
            if every and made and position.steps % every == 0:
                self._save()
        if position.consumed >= self.task.train_size:
            return self._end_epoch() or stopped
        if self._done():
            self._validate()
        return stopped

    def _steps_together(self) -> int:
        """Steps until all workers must be at the same point: to save, or because it is the end."""
        done, every = self.position.steps, self.settings.checkpoint.every_steps
        limit = self.settings.train.steps
        points = [every - done % every] if every else []
        points += [limit - done] if limit else []
        return min(points, default=sys.maxsize)

    def _make(self, step: int, part: int) -> bool:
        """One part of a step, `step` steps from here; whether a worker was told to stop."""
        position, recorder, task = self.position, self.recorder, self.task
        recorder.start()
        before = task.after(position.consumed, step)
        ahead = self.turns.foreseen()
        if ahead is not None:
            task.foresee(position.epoch, task.after(position.consumed, ahead[0]), ahead[1])
        bring = task.train(position.epoch, before, part, recorder)
        result = self.rule.step(task.replica, self.stop.add_to(bring))
        recorder.steps += 1
        recorder.samples += round(bring.samples)
        consumed = position.epoch * task.train_size + task.after(before, 1)
        self.journal.step(position.steps + step + 1, consumed, consumed / task.train_size, result)
        return result.stop or (self.stop.is_set and self.rule.options.asynchronous)

    def _end_epoch(self) -> bool:
        """Validate and save where they are due; whether a worker was told to stop meanwhile.

        Then the epoch is not over: a resumed run comes back to this very point. Not where worker 0
        validates alone: the others are in the next epoch, and this validation is left out.
        """
        position, epoch = self.position, self.position.epoch + 1
        last = epoch >= self.task.n_epochs or self._done()
        every = self.settings.train.validate_every_epochs
        seconds = None
        due = every and (last or epoch % every == 0)
        alone = self.rule.one_validates and not last
        if due and not alone:
            seconds = self._run_validation()
            if seconds is None:
                return True
        position.epoch, position.consumed = epoch, 0
        self.journal.epoch(epoch, position.steps)
        if seconds is not None:
            position.validation = self.journal.validation(seconds, position.steps)
        saves = self.settings.checkpoint.every_epochs
        saving = last or (saves and epoch % saves == 0)
        if saving:
            self._save()
        if due and alone:
            seconds = self._validate_alone()
        if saving and seconds is not None:
            self.saver.note_best(position.steps, position.validation)
        return False

    def _validate_alone(self) -> float | None:
        """Worker 0 validates while the others go on; it takes fewer batches meanwhile."""
        begun = time.perf_counter()
        with self.rule.consensus(self.task.replica):
            if self.world.rank:
                return None
            self.task.validate(self.recorder, lambda: self.stop.is_set, alone=True)
        if self.stop.is_set:
            self.recorder.take_validation_sums()
            return None
        seconds = time.perf_counter() - begun
        self.position.validation = self.journal.validation(seconds, self.position.steps, alone=True)
        return seconds

    def _validate(self) -> None:
        """Validate between epochs, because the run ends here."""
        if self.settings.train.validate_every_epochs:
            seconds = self._run_validation()
            if seconds is not None:
                self.position.validation = self.journal.validation(seconds, self.position.steps)

    def _run_validation(self) -> float | None:
        """The seconds that it took; None if a worker was told to stop, and all broke it off."""
        begun = time.perf_counter()
        with self.rule.consensus(self.task.replica):
            self.task.validate(self.recorder, lambda: self.stop.is_set, alone=False)
        (stopping,) = self.world.meet([self.stop.is_set], "the end of validation")
        if stopping:
            self.recorder.take_validation_sums()
            return None
        return time.perf_counter() - begun

    def _save(self) -> None:
        if self.saver.saved_at != self.position.steps:
            self.saver.save(self.position)

    def _finish(self, digest: str, *, stopped: bool) -> None:
        self.journal.finish(
            status="stopped" if stopped else "finished",
            steps=self.position.steps,
            epochs=self.position.epoch,
            validation=self.position.validation,
            weights_sha256=digest,
            loading=self.task.loading(),
        )
        self.task.close()
