"""What is compared: the rules with their candidates, what all share, and in which order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MODEL = "cifar10-cnn"
BASE_RATE = 0.05
"""The model's own learning rate, of a global batch of 128; candidates multiply it."""
EXCHANGE = "asa"
"""Of all rules that average together; not auto, which takes shm here, where no byte is counted."""
CLOSE = 1.0
"""How many points a rule may be from bsp."""
FINAL_FACTORS = (1, 0.6)
"""Of the rate that was chosen before: so short a search likes higher ones than a longer training
does, and two workers higher ones than four, whose rates are those times four."""
CELLS = ((2, 0), (4, 0), (2, 1), (2, 2))
"""(workers, seed) in the order of the runs: soon there is a whole table, then it gets surer."""


@dataclass(frozen=True)
class Subject:
    """One rule of the table.

    Candidates are (rule with its options, factor of the learning rate), as many for each rule.
    """

    name: str
    candidates: tuple[tuple[str, float], ...]
    tighter: tuple[str, float]
    """What four workers try too: bound more closely, at a factor of the rate that two chose; where
    a rule has nothing to bind, another rate."""
    goal: float | None = CLOSE
    """Points from bsp; None: it is in the table only."""
    scaling: str = "linear"
    """How the rate grows with the workers. Means need it; a sum of all pushes has it in itself."""


def _grid(
    first: str,
    second: str,
    *later: tuple[str, float],
    factors: tuple[float, float] = (1, 2),
) -> tuple[tuple[str, float], ...]:
    """All of two options and two factors, and those that were added `later` for every rule.

    That was after the first runs (gosgd was 1.2 points below bsp), and twice the rate had lost
    everywhere: one more rate and one more option each, around the best so far.
    """
    return (*((rule, factor) for rule in (first, second) for factor in factors), *later)


def _outer(rule: str) -> tuple[tuple[str, float], ...]:
    """Of the rules with an outer optimizer."""
    return _grid(
        f"{rule}:period=20,outer_momentum=0.5",
        f"{rule}:period=20",
        (f"{rule}:period=20,outer_momentum=0.5", 1.5),
        (f"{rule}:period=10,outer_momentum=0.5", 1),
        factors=(0.5, 1),
    )


SUBJECTS = (
    Subject(
        "bsp",
        (("bsp", 0.5), ("bsp", 1), ("bsp", 1.5), ("bsp", 2), ("bsp", 0.75), ("bsp", 1.25)),
        ("bsp", 0.8),
        goal=None,
    ),
    Subject(
        "easgd",
        _grid(
            "easgd:alpha=0.5,period=4",
            "easgd:alpha=0.5,period=10",
            ("easgd:alpha=0.5,period=4", 0.5),
            ("easgd:alpha=0.5,period=1", 1),
        ),
        ("easgd:alpha=0.9,period=1", 1),
    ),
    Subject(
        "easgd-sync",
        _grid(
            "easgd-sync:period=4",
            "easgd-sync:period=10",
            ("easgd-sync:period=4", 0.5),
            ("easgd-sync:period=1", 1),
        ),
        ("easgd-sync:alpha=0.9,period=1", 1),
        goal=None,
    ),
    Subject(
        "asgd",
        (
            ("asgd", 0.25),
            ("asgd", 0.5),
            ("asgd:staleness=divide", 0.5),
            ("asgd:staleness=divide", 1),
            ("asgd:staleness=divide", 1.5),
            ("asgd:compensation=constant", 0.5),
        ),
        ("asgd:staleness=divide", 0.8),
        goal=1.5,
        scaling="none",
    ),
    Subject(
        "gosgd",
        _grid("gosgd:p=0.05", "gosgd:p=0.2", ("gosgd:p=0.2", 0.5), ("gosgd:p=0.5", 1)),
        ("gosgd:p=1", 0.6),
    ),
    Subject(
        "local-sgd",
        _grid(
            "local-sgd:period=4",
            "local-sgd:period=16",
            ("local-sgd:period=4", 0.5),
            ("local-sgd:period=8", 1),
        ),
        ("local-sgd:period=2", 0.6),
    ),
    Subject(
        "post-local",
        _grid(
            "post-local:period=4",
            "post-local:period=16",
            ("post-local:period=4", 0.5),
            ("post-local:period=8", 1),
        ),
        ("post-local:period=4", 0.8),
    ),
    Subject(
        "slowmo",
        _grid(
            "slowmo:beta=0.4",
            "slowmo:beta=0.7",
            ("slowmo:beta=0.4", 1.5),
            ("slowmo:beta=0.2", 1),
            factors=(0.5, 1),
        ),
        ("slowmo:beta=0.4,period=4", 1),
    ),
    Subject("diloco", _outer("diloco"), ("diloco:period=5,outer_momentum=0.5", 1)),
    Subject("sgp", _grid("sgp", "sgp:overlap=1", ("sgp", 0.5), ("sgp", 0.75)), ("sgp", 0.8)),
    Subject(
        "adpsgd",
        _grid("adpsgd", "adpsgd:period=4", ("adpsgd:period=4", 0.5), ("adpsgd:period=2", 1)),
        ("adpsgd", 0.6),
    ),
    Subject(
        "streaming-diloco",
        _outer("streaming-diloco"),
        ("streaming-diloco:period=5,outer_momentum=0.5", 1),
        goal=None,
    ),
    Subject(
        "bsp/diloco",
        _outer("bsp/diloco"),
        ("bsp/diloco:period=5,outer_momentum=0.5", 1),
        goal=None,
    ),
)


@dataclass(frozen=True)
class Job:
    """One training; two that are equal in all of this are the same, and made once."""

    stage: str
    """search, final or run."""
    subject: str
    rule: str
    learning_rate: float
    scaling: str
    workers: int
    seed: int
    epochs: int
    samples: int
    """Of the training set."""

    def __str__(self) -> str:
        rate = f"lr {self.learning_rate:g}"
        return f"{self.rule} {rate} n={self.workers} seed {self.seed}"

    def settings(self) -> dict[str, Any]:
        """What differs from the model's defaults, besides what has an option of its own.

        One schedule for all rules, with steps in it, for post-local waits for the first of them.
        """
        return {
            "schedule.name": "step",
            "schedule.milestones": [round(share * self.epochs, 3) for share in (0.5, 0.8)],
            "schedule.gamma": 0.1,
            "schedule.scaling": self.scaling,
            "schedule.warmup": "linear",
            "schedule.warmup_epochs": 1.0,
            "checkpoint.every_epochs": 0,
            "checkpoint.keep_last": 1,
            "checkpoint.keep_best": False,
        }

    def arguments(self, data: str, out: str) -> list[str]:
        """Those of `arignote`."""
        line = ["train", MODEL, "-n", str(self.workers), "--rule", self.rule]
        line += ["--exchange", EXCHANGE]
        line += ["--data", f"cifar10:{data}", "--lr", f"{self.learning_rate:g}"]
        line += ["--epochs", str(self.epochs), "--seed", str(self.seed), "--out", out]
        for key, value in self.settings().items():
            line += ["--set", f"{key}={json.dumps(value)}"]
        return line


def select(names: str | None) -> list[Subject]:
    """The subjects called `names` (a,b,c), or all.

    Raises:
        KeyError: there is none of a name.
    """
    known = {subject.name: subject for subject in SUBJECTS}
    return list(SUBJECTS) if names is None else [known[name] for name in names.split(",")]


def search_jobs(subjects: Iterable[Subject], epochs: int, samples: int) -> Iterator[Job]:
    """All candidates of each subject."""
    for s in subjects:
        for rule, factor in s.candidates:
            rate = round(factor * BASE_RATE, 6)
            yield Job("search", s.name, rule, rate, s.scaling, 2, 0, epochs, samples)


def final_jobs(
    chosen: Iterable[dict[str, Any]], workers: int, epochs: int, samples: int
) -> Iterator[Job]:
    """What was chosen before (jobs) in a longer training, and each with a lower rate.

    Four workers try what binds them more closely, too.
    """
    tighter = {subject.name: [subject.tighter] for subject in SUBJECTS}
    for job in chosen:
        variants = [(job["rule"], factor) for factor in FINAL_FACTORS]
        for rule, factor in variants + (tighter[job["subject"]] if workers > 2 else []):
            rate = round(factor * job["learning_rate"], 6)
            fixed = {"epochs": epochs, "samples": samples, "learning_rate": rate, "rule": rule}
            yield Job(**{**job, **fixed, "stage": "final", "workers": workers})


def run_jobs(
    chosen: Mapping[int, Sequence[dict[str, Any]]], epochs: int, samples: int
) -> Iterator[Job]:
    """Every cell of the table, each for all that was chosen (jobs) for so many workers."""
    for workers, seed in CELLS:
        for job in chosen[workers]:
            fixed = {"workers": workers, "seed": seed, "epochs": epochs, "samples": samples}
            yield Job(**{**job, **fixed, "stage": "run"})


def choose(records: Iterable[dict[str, Any]], workers: int) -> dict[str, dict[str, Any]]:
    """The record of each subject's best candidate of so many workers: the last epoch decides.

    Raises:
        ValueError: the searches were not of one size.
    """
    best: dict[str, dict[str, Any]] = {}
    good = [record for record in records if record["status"] == "finished"]
    one_size(good)
    for record in good:
        name = record["job"]["subject"]
        if record["job"]["workers"] != workers:
            continue
        if name not in best or record["accuracy"][-1] > best[name]["accuracy"][-1]:
            best[name] = record
    return best


def choose_all(
    searched: Sequence[dict[str, Any]], finals: Sequence[dict[str, Any]]
) -> dict[int, dict[str, dict[str, Any]]]:
    """Workers -> subject -> record: of the latest stage that there is for so many workers.

    Raises:
        ValueError: a stage is of several sizes.
    """
    two = choose(searched, 2) | choose(finals, 2)
    return {2: two, 4: two | choose(finals, 4)}


def one_size(records: Iterable[dict[str, Any]]) -> None:
    """Raises ValueError if the records are of several studies."""
    sizes = {(record["job"]["epochs"], record["job"]["samples"]) for record in records}
    if len(sizes) > 1:
        raise ValueError(
            f"records of several sizes (epochs, samples): {sorted(sizes)}; give each its own --out"
        )
