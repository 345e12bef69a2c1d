"""The rows of the paper's scaling table: what is trained, what it took, the original's figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from studies.page import failures, machine_line, table_lines

from arignote.recorder.events import read_events
from arignote.recorder.phases import PHASES
from arignote.recorder.summary import read_summary

IMAGES = 5120
"""The original's unit: 40 files of 128 images, over all workers."""

ORIGINAL = {
    "alexnet-128b": ("20.50", "10.35+0.78", "5.13+0.54", "2.63+0.61"),
    "googlenet-32b": ("63.89", "31.40+1.00", "15.51+0.71", "7.69+0.80"),
    "vgg16-16b": ("358.29", "176.08+13.90", "90.44+9.28", "55.12+12.59"),
    "vgg16-32b": ("343.37", "169.12+7.14", "86.97+4.80", "43.29+5.41"),
    "resnet50-64b": ("163.15", "80.09+0.81", "40.25+0.56", "20.12+0.57"),
}
"""Theano-MPI's README of July 2017: train + comm at n = 1, 2, 4, 8 on the dies of Tesla K80; sync
and wait were left out. MODEL-BATCHb, the batch being a worker's."""
WORKERS = (1, 2, 4, 8)


@dataclass(frozen=True)
class Job:
    """One row at one number of workers."""

    name: str
    workers: int
    steps: int
    exchange: str
    side: int
    devices: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} n={self.workers}"

    @property
    def batch_size(self) -> int:
        """Of a worker."""
        return int(self.name.rpartition("-")[2].removesuffix("b"))

    def record(self) -> dict[str, Any]:
        """As it stands in the records, where a tuple is a list."""
        return asdict(self) | {"devices": list(self.devices)}

    def settings(self) -> dict[str, Any]:
        """All steps in one epoch; each is recorded."""
        return {
            "launch.threads": 1,
            "train.steps": self.steps,
            "train.validate_every_epochs": 0,
            "recorder.every_seconds": 1e-6,
            "checkpoint.every_epochs": 0,
            "checkpoint.keep_best": False,
        }

    def arguments(self, data: str, out: str) -> list[str]:
        """Those of `arignote`; the data is synthetic."""
        images = self.steps * self.batch_size * self.workers
        line = ["train", self.name.rpartition("-")[0], "-n", str(self.workers)]
        line += ["--data", f"synthetic:3x{self.side}x{self.side},1000,train={images},validation=1"]
        line += ["--exchange", self.exchange, "--batch-size", str(self.batch_size), "--out", out]
        line += ["--epochs", "1"]
        if self.devices:
            line += ["--devices", ",".join(self.devices)]
        for key, value in self.settings().items():
            line += ["--set", f"{key}={json.dumps(value)}"]
        return line


def results(run: Path) -> dict[str, Any]:
    """Worker 0's mean seconds a step in each phase, the first step left out."""
    summary = read_summary(run)
    steps = [event for event in read_events(run) if event["event"] == "step"]
    if summary is None or summary.status != "finished" or len(steps) < 2:
        return {"status": "failed", "error": "it did not come to its last step"}
    first, last = steps[0], steps[-1]
    counted = last["step"] - first["step"]
    return {
        "status": "finished",
        "steps": counted,
        "step_seconds": {p: (last["seconds"][p] - first["seconds"][p]) / counted for p in PHASES},
        "exchange": summary.exchange,
        "library": summary.library,
        "parameters": summary.parameters,
    }


def write_report(ran: Sequence[dict[str, Any]], page: Path) -> Path:
    """Write the page; returns its path."""
    page.parent.mkdir(parents=True, exist_ok=True)
    finished = [record for record in ran if record["status"] == "finished"]
    lines = ["# The paper's scaling table, redone", ""]
    if finished:
        lines += _opening(finished)
    lines += ["## Ours", "", *_ours(finished), "", "## Theano-MPI's", "", *_originals(), ""]
    lines += [failures([record for record in ran if record["status"] == "failed"])]
    lines += ["## Commands", "", "```console", *(f"$ {r['command']}" for r in finished), "```", ""]
    page.write_text("\n".join(lines))
    return page


def _opening(finished: Sequence[dict[str, Any]]) -> list[str]:
    job = finished[0]["job"]
    several = [record for record in finished if record["job"]["workers"] > 1]
    machines = sorted({machine_line(record) for record in several or finished})
    on = "GPUs" if job["devices"] else "cores of the CPU, one a worker"
    exchanges = ", ".join(sorted({record["exchange"] for record in finished}))
    commits = ", ".join(sorted({record["commit"] for record in finished}))
    return [
        f"Seconds per {IMAGES:,} images over all workers: calc + comm + sync + wait of worker 0,",
        f"from the means of {finished[0]['steps']} steps after the first, on synthetic images of",
        f"3 x {job['side']} x {job['side']} (so wait is not a disk's). In brackets: images/s, and",
        "the speed-up over one worker, all four phases counted. A worker's batch is in the name,",
        f"the global batch grows with n. Rule bsp, exchange {exchanges}.",
        "",
        f"Machine: {'; '.join(machines)}; on {on}. Commit {commits}.",
        "",
    ]


def _ours(finished: Sequence[dict[str, Any]]) -> list[str]:
    rows = []
    for name in ORIGINAL:
        own = {r["job"]["workers"]: r for r in finished if r["job"]["name"] == name}
        count = f"{next(iter(own.values()))['parameters']:,}" if own else "–"
        rows.append([name, count, *(_cell(own.get(n), own.get(1)) for n in WORKERS)])
    return table_lines(("model", "parameters", *(f"n = {n}" for n in WORKERS)), rows)


def _cell(record: dict[str, Any] | None, one: dict[str, Any] | None) -> str:
    if record is None:
        return "not measured"
    job = Job(**record["job"])
    each = IMAGES / (job.batch_size * job.workers)
    phases = [each * record["step_seconds"][p] for p in PHASES]
    text = " + ".join(f"{seconds:.2f}" for seconds in phases)
    text += f" ({IMAGES / sum(phases):.1f}/s"
    if one is not None and one is not record:
        alone = IMAGES / job.batch_size * sum(one["step_seconds"].values())
        text += f", {alone / sum(phases):.2f} x"
    return text + ")"


def _originals() -> list[str]:
    heads = ("model", *(f"n = {n}" for n in WORKERS))
    return [
        "train + comm on the dies of Tesla K80, July 2017; barriers (sync) and waiting for data",
        "are left out of it, as its notebook says.",
        "",
        *table_lines(heads, [[name, *values] for name, values in ORIGINAL.items()]),
    ]
