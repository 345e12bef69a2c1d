"""What the convergence study trains: models, rules and numbers of workers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

RULES = ("bsp:scheme=gradient", "bsp:scheme=weights", "easgd:alpha=0.5,period=1", "gosgd:p=0.5")
"""Theano-MPI's two schemes of BSP (cdd and avg), and its asynchronous rules.

alpha and period are what its paper found best; p is what `rules_study.py` found.
"""
WORKERS = (1, 2, 4, 8)
EXCHANGE = "asa"
RECIPES: dict[str, dict[str, Any]] = {
    # A quarter of its own rate: with that, times n, four and eight workers of BSP diverged.
    "cifar10-cnn": {"optimizer.learning_rate": 0.0125},
    # bf16 is 2.4 times as fast on cores with AMX; small batches, for few images make few steps.
    "resnet18": {
        "optimizer.learning_rate": 0.1,
        "train.batch_size": 16,
        "train.augment": "mirror",
        "train.precision": "bf16",
        "schedule.milestones": [],
    },
}
"""Settings of a model here that are not its own."""


@dataclass(frozen=True)
class Job:
    """One training."""

    model: str
    rule: str
    workers: int
    epochs: int
    samples: int
    seed: int

    def __str__(self) -> str:
        return f"{self.model} {self.rule} n={self.workers}"

    def settings(self) -> dict[str, Any]:
        """The batch of a worker stays, so the global batch and the learning rate grow with n."""
        return RECIPES[self.model] | {
            "schedule.name": "cosine",
            "schedule.scaling": "linear",
            "schedule.reference_batch_size": 64,
            "schedule.warmup": "geometric",
            "schedule.warmup_epochs": round(self.epochs / 10, 3),
            "checkpoint.every_epochs": 0,
            "checkpoint.keep_last": 1,
            "checkpoint.keep_best": False,
        }

    def arguments(self, data: str, out: str) -> list[str]:
        """Those of `arignote`."""
        line = ["train", self.model, "-n", str(self.workers), "--rule", self.rule]
        line += ["--exchange", EXCHANGE, "--data", f"cifar10:{data}"]
        line += ["--epochs", str(self.epochs), "--seed", str(self.seed), "--out", out]
        for key, value in self.settings().items():
            line += ["--set", f"{key}={json.dumps(value)}"]
        return line


def jobs(
    model: str, workers: Sequence[int], rules: Iterable[str], epochs: int, samples: int, seed: int
) -> Iterator[Job]:
    """The fewest workers first; one worker once, for it is the same with every rule."""
    for count in sorted(workers):
        for rule in list(rules)[: 1 if count == 1 else None]:
            yield Job(model, rule, count, epochs, samples, seed)
