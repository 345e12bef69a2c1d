"""All rules on CIFAR-10, at equal samples, each with settings found by an equal small search.

    OUT=benchmarks/results/rules-study
    python benchmarks/rules_study.py search --data DIR --out $OUT
    python benchmarks/rules_study.py final  --data DIR --out $OUT
    python benchmarks/rules_study.py final  --data DIR --out $OUT --workers 4
    python benchmarks/rules_study.py run    --data DIR --out $OUT
    python benchmarks/rules_study.py report --out $OUT

Each run adds a line to search.jsonl, final.jsonl or run.jsonl as soon as it is over, and runs that
stand there are not made again: kill it and start it anew as you like. DIR holds CIFAR-10 in any
form that `cifar10:` or `imagefolder:` read. A smoke test: `--samples 2000 --epochs 1 --only
bsp,easgd`, for `search` and `run` alike, with an --out of its own.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import click
from studies.cut import WHOLE, cut
from studies.rules_plan import (
    SUBJECTS,
    Job,
    Subject,
    choose,
    choose_all,
    final_jobs,
    run_jobs,
    search_jobs,
    select,
)
from studies.rules_report import write_report
from studies.runs import Records, make

_ROOT = Path(__file__).parents[1]
Stage = Literal["search", "final", "run"]
STAGES = get_args(Stage)
_FOLDER = click.Path(file_okay=False, path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])
_out = click.option("--out", type=_FOLDER, required=True, help="Where the records are kept.")


def _training_options(epochs: int, samples: int) -> Callable[[F], F]:
    options = (
        click.option(
            "--data",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            required=True,
            help="CIFAR-10.",
        ),
        _out,
        click.option(
            "--work",
            type=_FOLDER,
            default=_ROOT / "runs" / "rules-study",
            show_default="runs/rules-study",
            help="Where the data is put as arrays (200 MB).",
        ),
        click.option("--only", metavar="RULE,RULE", help="No other rules."),
        click.option("--epochs", type=click.IntRange(1), default=epochs, show_default=True),
        click.option(
            "--samples",
            type=click.IntRange(2, WHOLE),
            default=samples,
            show_default=True,
            help="Training images.",
        ),
        click.option("--limit", type=click.IntRange(1), help="Make so many runs at most."),
        click.option("--again", is_flag=True, help="Also make anew those that failed."),
        click.option(
            "--timeout", type=float, default=7200.0, show_default=True, help="Seconds a run."
        ),
    )

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group(help=__doc__.partition("\n")[0] if __doc__ else None)
def study() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@study.command()
@_training_options(epochs=6, samples=10_000)
def search(**given: Any) -> None:
    """Train every candidate of every rule on a part of the training set, n = 2, seed 0."""
    _make("search", search_jobs(_selected(given["only"]), given["epochs"], given["samples"]), given)
    for name, record in _searched(given["out"]).items():
        rate = record["job"]["learning_rate"]
        best = f"{record['accuracy'][-1]:.2%}"
        click.echo(f"{name}: {record['job']['rule']}, learning rate {rate:g}: {best}")


@study.command()
@_training_options(epochs=8, samples=20_000)
@click.option(
    "--workers",
    type=click.Choice(["2", "4"]),
    default="2",
    show_default=True,
    help="2: what the search chose; 4: what was chosen for 2.",
)
def final(workers: str, **given: Any) -> None:
    """Train what was chosen before for longer, and at a lower rate; seed 0."""
    out = given["out"]
    chosen = _searched(out) if workers == "2" else _choose(out)[2]
    jobs = _asked(chosen, given["only"])
    _make("final", final_jobs(jobs, int(workers), given["epochs"], given["samples"]), given)


@study.command()
@_training_options(epochs=10, samples=WHOLE)
def run(**given: Any) -> None:
    """Train every rule with the settings chosen for it: the cells of the table."""
    chosen = _choose(given["out"])
    two = _asked(chosen[2], given["only"])
    jobs = {2: two, 4: [chosen[4][job["subject"]]["job"] for job in two]}
    _make("run", run_jobs(jobs, given["epochs"], given["samples"]), given)


@study.command()
@_out
@click.option(
    "--to",
    type=_FOLDER,
    default=_ROOT / "benchmarks" / "results",
    show_default="benchmarks/results",
    help="Where DATE-rules.md and .png go.",
)
@click.option("--date", default=time.strftime("%Y-%m-%d"), show_default="today")
def report(out: Path, to: Path, date: str) -> None:
    """Write the table and the curves of what is there so far."""
    stages = {stage: Records(out / f"{stage}.jsonl").read() for stage in STAGES}
    try:
        page = write_report(stages, to, f"{date}-rules")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    click.echo(f"written: {page}")


def _asked(chosen: dict[str, dict[str, Any]], only: str | None) -> list[dict[str, Any]]:
    """The chosen jobs of the rules that are asked for."""
    asked = _selected(only)
    for subject in asked:
        if subject.name not in chosen:
            click.echo(f"{subject.name}: left out, for no candidate of it has finished a search")
    return [chosen[subject.name]["job"] for subject in asked if subject.name in chosen]


def _selected(only: str | None) -> list[Subject]:
    try:
        return select(only)
    except KeyError as error:
        known = ", ".join(subject.name for subject in SUBJECTS)
        raise click.UsageError(f"--only: no rule {error} here; there are {known}") from None


def _searched(out: Path) -> dict[str, dict[str, Any]]:
    try:
        return choose(Records(out / "search.jsonl").read(), 2)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _choose(out: Path) -> dict[int, dict[str, dict[str, Any]]]:
    try:
        stages = (Records(out / f"{stage}.jsonl").read() for stage in ("search", "final"))
        return choose_all(*stages)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _make(stage: Stage, jobs: Iterable[Job], given: dict[str, Any]) -> None:
    """Perform what is not recorded yet, one after the other."""

    def data() -> Path:
        try:
            held: Literal["search", "run"] = "run" if stage == "run" else "search"
            return cut(given["data"], given["work"].absolute(), held, given["samples"])
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    records = Records(given["out"] / f"{stage}.jsonl")
    limits = {"limit": given["limit"], "timeout_seconds": given["timeout"]}
    make(jobs, records, data, again=given["again"], **limits)


if __name__ == "__main__":
    study(prog_name="python benchmarks/rules_study.py")
