"""The loop: epochs of steps, validation, checkpoints; the same for every rule and framework."""

from __future__ import annotations

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
    ) -> None:
        self.settings = settings
        self.task = task
        self.rule = rule
        self.world = world
        self.recorder = recorder
        self.journal = journal
        self.saver = saver
        self.stop = stop
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
        self.position = self.saver.resume() or self.position
        self.journal.begin(asdict(self.position), self.task.n_epochs)
        if self._done() and not self.position.validation:
            # The checkpoint was saved by its step, before the validation that was due.
            self._validate()
        stopped = False
        while not stopped and not self._done():
            stopped = self._epoch()
        self._save()
        self.rule.finish(self.task.replica)
        self._finish(stopped and not self._done())

    def _done(self) -> bool:
        limit = self.settings.train.steps
        if limit and self.position.steps >= limit:
            return True
        return self.position.epoch >= self.task.n_epochs

    def _epoch(self) -> bool:
        """Train to the end of the epoch under way; whether a worker was told to stop."""
        position, stopped = self.position, False
        for _ in range(self.task.start_epoch(position.epoch, position.consumed)):
            stopped = self._step()
            if stopped or self._done():
                break
        if position.consumed >= self.task.train_size:
            return self._end_epoch() or stopped
        if self._done():
            self._validate()
        return stopped

    def _step(self) -> bool:
        """One step of the rule; whether a worker was told to stop."""
        position, recorder = self.position, self.recorder
        recorder.start()
        bring = self.task.train(position.epoch, position.consumed, recorder)
        result = self.rule.step(self.task.replica, self.stop.add_to(bring))
        recorder.steps += 1
        recorder.samples += round(bring.samples)
        position.consumed += self.task.consumed(result)
        position.steps += 1
        self.journal.step(position.epoch + position.consumed / self.task.train_size, result)
        every = self.settings.checkpoint.every_steps
        if every and position.steps % every == 0:
            self._save()
        return result.stop

    def _end_epoch(self) -> bool:
        """Validate and save where they are due; whether a worker was told to stop meanwhile.

        Then the epoch is not over: a resumed run comes back to this very point.
        """
        position, epoch = self.position, self.position.epoch + 1
        last = epoch >= self.task.n_epochs or self._done()
        every = self.settings.train.validate_every_epochs
        seconds = None
        if every and (last or epoch % every == 0):
            seconds = self._run_validation()
            if seconds is None:
                return True
        position.epoch, position.consumed = epoch, 0
        self.journal.epoch(epoch)
        if seconds is not None:
            position.validation = self.journal.validation(seconds)
        saves = self.settings.checkpoint.every_epochs
        if last or (saves and epoch % saves == 0):
            self._save()
            if seconds is not None:
                self.saver.note_best(position.steps, position.validation)
        return False

    def _validate(self) -> None:
        """Validate between epochs, because the run ends here."""
        if self.settings.train.validate_every_epochs:
            seconds = self._run_validation()
            if seconds is not None:
                self.position.validation = self.journal.validation(seconds)

    def _run_validation(self) -> float | None:
        """The seconds that it took; None if a worker was told to stop, and all broke it off."""
        begun = time.perf_counter()
        with self.rule.consensus(self.task.replica):
            self.task.validate(self.recorder, lambda: self.stop.is_set)
        (stopping,) = self.world.meet([self.stop.is_set], "the end of validation")
        if stopping:
            self.recorder.take_validation_sums()
            return None
        return time.perf_counter() - begun

    def _save(self) -> None:
        if self.saver.saved_at != self.position.steps:
            self.saver.save(self.position)

    def _finish(self, stopped: bool) -> None:
        with self.rule.consensus(self.task.replica):
            digest = weights_sha256(self.task.replica.named_tensors())
        self.journal.finish(
            status="stopped" if stopped else "finished",
            steps=self.position.steps,
            epochs=self.position.epoch,
            validation=self.position.validation,
            weights_sha256=digest,
        )
        self.task.close()
