"""The page of the convergence study: errors against n and rule, the original's, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studies.convergence_plan import RULES, WORKERS
from studies.page import failures, machine_line, table_lines
from studies.picture import draw

Record = dict[str, Any]

ORIGINAL = (
    ("1", "42.87 / 20.04"),
    ("4", "43.29 / 20.33"),
    ("8", "45.74 / 22.02"),
)
"""Theano-MPI's AlexNet-128b on ImageNet after 70 epochs, scheme avg, learning rate x n: top-1 and
top-5 error in percent, recomputed from the logs that its authors published."""


def write_report(ran: Sequence[Record], folder: Path, name: str) -> Path:
    """Write `name`.md and a picture for each model into `folder`; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    finished = [record for record in ran if record["status"] == "finished"]
    parts = [_opening(finished)]
    for model in dict.fromkeys(record["job"]["model"] for record in finished):
        own = [record for record in finished if record["job"]["model"] == model]
        parts.append(_section(model, own))
        picture = f"{name}-{model}.png"
        one = _called(_of(own, RULES[0], 1))
        title = f"{model}: the learning rate grows with n, equal samples"
        draw({_called(r): r["accuracy"] for r in own}, folder / picture, title, one)
        parts.append(f"![test accuracy against epochs]({picture})\n")
    parts.append(_original())
    parts.append(failures([record for record in ran if record["status"] == "failed"]))
    parts.append(_commands(finished))
    page = folder / f"{name}.md"
    page.write_text("\n".join(part for part in parts if part))
    return page


def _opening(finished: Sequence[Record]) -> str:
    lines = ["# The paper's convergence study, redone", ""]
    if not finished:
        return "\n".join([*lines, "No run is over yet.", ""])
    several = [record for record in finished if record["job"]["workers"] > 1]
    machines = sorted({machine_line(record) for record in several or finished})
    commits = sorted({record["commit"] for record in finished})
    lines += [
        "As in the original, the batch of a worker stays, so the global batch grows with n, and",
        "the learning rate with it (linear, warmed up over the first tenth of the epochs). An",
        "epoch is the data set once over all workers together. Errors are of the last epoch, on",
        "all 10,000 test images; of fewer training images than 50,000, on a fifth as many.",
        "",
        f"Machine: {'; '.join(machines)}. More workers than cores say something about convergence",
        f"and nothing about speed. Commit {', '.join(commits)}.",
        "",
    ]
    return "\n".join(lines)


def _section(model: str, own: Sequence[Record]) -> str:
    job = own[0]["job"]
    one = _of(own, RULES[0], 1)
    rows = []
    for rule in RULES:
        cells = []
        for workers in WORKERS:
            record = one if workers == 1 else _of(own, rule, workers)
            cells.append(_errors(record, one))
        rows.append([f"`{rule}`", *cells])
    return "\n".join(
        [
            f"## {model}",
            "",
            f"{own[0]['parameters']:,} parameters, {job['samples']:,} training images, "
            f"{job['epochs']} epochs, seed {job['seed']}.",
            "Top-1 / top-5 error in percent (points of top-1 above one worker).",
            "",
            *table_lines(("rule", *(f"n = {n}" for n in WORKERS)), rows),
            "",
        ]
    )


def _of(own: Sequence[Record], rule: str, workers: int) -> Record | None:
    for record in own:
        job = record["job"]
        if job["workers"] == workers and (workers == 1 or job["rule"] == rule):
            return record
    return None


def _errors(record: Record | None, one: Record | None) -> str:
    if record is None:
        return "missing"
    error = 100 * (1 - record["accuracy"][-1])
    text = f"{error:.2f} / {100 * record['error_top5'][-1]:.2f}"
    if one is None or record is one:
        return text
    return f"{text} ({error - 100 * (1 - one['accuracy'][-1]):+.2f})"


def _called(record: Record | None) -> str:
    if record is None:
        return ""
    job = record["job"]
    return "one worker" if job["workers"] == 1 else f"{job['rule']} n={job['workers']}"


def _original() -> str:
    rows = [[errors for _, errors in ORIGINAL]]
    return "\n".join(
        [
            "## The original's",
            "",
            "Theano-MPI, AlexNet-128b on ImageNet, 70 epochs, BSP (scheme avg, learning rate x n):",
            "top-1 / top-5 error in percent, from the logs that its authors published.",
            "",
            *table_lines([f"n = {n}" for n, _ in ORIGINAL], rows),
            "",
        ]
    )


def _commands(finished: Sequence[Record]) -> str:
    if not finished:
        return ""
    commands = [record["command"] for record in finished]
    return "\n".join(["## Commands", "", "```console", *(f"$ {c}" for c in commands), "```", ""])
