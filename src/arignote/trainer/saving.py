"""What a checkpoint of a run holds, and how a run goes on from one."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from typing import Any

import torch

from arignote.checkpoint.store import (
    COMMON,
    WEIGHTS,
    CheckpointStore,
    refuse_other_tensors,
    worker_file,
)
from arignote.config.rule_options import parse_rule
from arignote.config.settings import Settings
from arignote.errors import CheckpointError
from arignote.frameworks.seeds import load_random_state, random_state, seed_worker
from arignote.recorder.phases import Recorder
from arignote.rules.base import Rule
from arignote.trainer.journal import Journal
from arignote.trainer.position import Position
from arignote.trainer.task import Task


class Saver:
    """Saves all of a run's state, and brings it back.

    Args:
        resume: go on from the newest sound checkpoint of the run's folder.
    """

    def __init__(
        self,
        store: CheckpointStore,
        settings: Settings,
        task: Task,
        rule: Rule,
        recorder: Recorder,
        journal: Journal,
        *,
        resume: bool,
    ) -> None:
        self.store = store
        self.settings = settings
        self.task = task
        self.rule = rule
        self.recorder = recorder
        self.journal = journal
        self.saved_at = -1
        self._resume = resume

    def save(self, position: Position) -> None:
        """Save; collective. A failure is a loud warning, and training goes on."""
        begun = time.perf_counter()
        step = position.steps
        replica, rule = self.task.replica, self.rule
        common: dict[str, Any] = {
            "position": asdict(position),
            "model": self.settings.run.model,
            "workers": self.store.world.size,
            "settings": self.settings.model_dump(),
        }
        if self.store.world.rank == 0:
            common["data"] = self.task.data_card()
        # First, because it may bring in what is on its way, which the recorder counts.
        kept = rule.state_dict()
        own: dict[str, Any] = {
            "random": random_state(),
            "recorder": self.recorder.state_dict(),
            "buffers": [*replica.buffers, *replica.counters],
            "rule": kept,
        }
        if rule.weights_are_local:
            own["parameters"] = list(replica.parameters)
        (own if rule.optimizer_is_local else common)["optimizer"] = replica.optimizer_state()
        with rule.consensus(replica):
            # Copied inside, because after it the buffers are this worker's own again.
            weights = {k: v.cpu().clone() for k, v in replica.named_tensors().items()}
        problem = self.store.save(step, weights=weights, common=common, own=own)
        if problem is None:
            self.saved_at = step
            if self.store.world.rank == 0:
                self.task.saved(self.store.path(step))
            seconds = time.perf_counter() - begun
            self.journal.event("checkpoint", step=step, seconds=seconds)
        else:
            self.journal.warn(
                f"checkpoint of step {step} NOT SAVED ({problem}): training goes on, older "
                "checkpoints are untouched; make room"
            )

    def note_best(self, step: int, validation: dict[str, float]) -> None:
        """Remember the checkpoint just saved if no validation was better."""
        value = validation.get(self.task.best_by, math.nan)
        if math.isnan(value):
            value = validation.get("loss", math.nan)
        first = self.store.world.rank == 0
        if (
            first
            and self.settings.checkpoint.keep_best
            and self.saved_at == step
            and value < self.store.best()[1]
        ):
            self.store.note_best(step, value)

    def resume(self) -> Position | None:
        """Load the newest sound checkpoint; its position, or None if not asked to resume.

        Raises:
            CheckpointError: there is none to resume from, or it is another model's.
        """
        if not self._resume:
            return None
        name, problems = self.store.newest_sound()
        if name is None:
            raise CheckpointError(
                f"{self.store.folder} has no checkpoint to resume from"
                + (f": {'; '.join(problems)}" if problems else ": the run never saved one")
            )
        for problem in problems:
            self.journal.warn(f"{problem}; using an older one")
        common = self.store.load(name, COMMON)
        self._load_weights(self.store.load(name, WEIGHTS), common, name)
        changes = self._load_own(common, name)
        self.saved_at = int(common["position"]["steps"])
        self.journal.event("resume", checkpoint=name, step=self.saved_at, changes=changes)
        return Position(**common["position"])

    def _load_weights(self, weights: dict[str, torch.Tensor], common: Any, name: str) -> None:
        replica = self.task.replica
        refuse_other_tensors(name, common["model"], weights, replica.named_tensors())
        replica.load_named_tensors(weights)
        replica.publish_parameters()

    def _load_own(self, common: Any, name: str) -> list[str]:
        """Load this worker's part; what is not as it was, in words."""
        world, replica = self.store.world, self.task.replica
        before = int(common["workers"])
        same = before == world.size
        if not same and not self.task.can_change_workers and common["position"]["consumed"]:
            raise CheckpointError(
                f"checkpoint {name} is of {before} workers in the middle of an epoch, and this "
                f"model shares out its data itself: resume with -n {before}"
            )
        own = self.store.load(name, worker_file(world.rank % before))
        local = "optimizer" in own
        replica.load_optimizer_state(own["optimizer"] if local else common["optimizer"])
        ruled = parse_rule(common["settings"]["run"]["rule"])[0]
        same_rule = ruled == parse_rule(self.settings.run.rule)[0]
        if same and same_rule:
            self.rule.load_state_dict(own["rule"])
            for vector, saved in zip(replica.parameters, own.get("parameters", ()), strict=False):
                vector.copy_(saved)
            replica.publish_parameters()
            for vector, saved in zip(
                (*replica.buffers, *replica.counters), own["buffers"], strict=True
            ):
                vector.copy_(saved)
            load_random_state(own["random"])
            self.recorder.load_state_dict(own["recorder"])
        else:
            everybodys = [self.store.load(name, worker_file(rank)) for rank in range(before)]
            self.rule.adopt(replica)
            if same_rule:
                self.rule.merge_state_dicts([theirs["rule"] for theirs in everybodys])
            else:
                self.rule.steps = int(own["rule"]["steps"])
            self.recorder.merge([theirs["recorder"] for theirs in everybodys], world.rank)
            seed_worker(self.settings.run.seed + int(common["position"]["steps"]), world.rank)
        changes = self._changes(common, local_optimizer=local)
        was, now = own["rule"]["exchange_name"], self.rule.exchange.name
        if was != now and own["rule"]["exchange"]:
            changes.append(f"what {was} had yet to send is dropped: {now} keeps it in another way")
        return changes

    def _changes(self, common: Any, *, local_optimizer: bool) -> list[str]:
        """What a resumed run does differently, in words."""
        before, now = int(common["workers"]), self.store.world.size
        changes = []
        if before != now:
            changes.append(f"{now} workers instead of {before}")
        settings = self.settings.model_dump()
        for section in ("run", "train", "optimizer", "schedule"):
            for key, value in settings[section].items():
                old = common["settings"][section].get(key)
                if old != value:
                    changes.append(f"{section}.{key} {value!r} instead of {old!r}")
        old_batch = before * int(common["settings"]["train"]["batch_size"])
        new_batch = now * self.settings.train.batch_size
        if old_batch != new_batch:
            scaled = self.settings.schedule.scaling != "none"
            rate = ", and the learning rate with it" if scaled else ""
            changes.append(f"global batch {new_batch} instead of {old_batch}{rate}")
        if before != now:
            changes.append("the workers' random streams are new; the epoch's other samples follow")
            if local_optimizer and now > before:
                changes.append("new workers take over the optimizer state of an old one")
        return changes
