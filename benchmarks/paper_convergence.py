"""The paper's convergence study: errors against rule and number of workers, learning rate x n.

    python benchmarks/paper_convergence.py run --model cifar10-cnn --data DIR --out OUT
    python benchmarks/paper_convergence.py report --out OUT

Each run adds a line to OUT/run.jsonl as soon as it is over, and runs that stand there are not made
again. DIR holds CIFAR-10 in any form that `cifar10:` or `imagefolder:` read. A smoke test:
`--samples 2000 --epochs 1 --workers 1,2`.
"""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import click
from studies.convergence_plan import RECIPES, RULES, WORKERS, jobs
from studies.convergence_report import write_report
from studies.cut import WHOLE, cut
from studies.runs import Records, make

_ROOT = Path(__file__).parents[1]
_FOLDER = click.Path(file_okay=False, path_type=Path)
_THERE = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group(help=__doc__.partition("\n")[0] if __doc__ else None)
def study() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@study.command(context_settings={"show_default": True})
@click.option("--model", type=click.Choice(list(RECIPES)), default="cifar10-cnn")
@click.option("--data", type=_THERE, required=True, help="CIFAR-10.")
@click.option("--out", type=_FOLDER, required=True, help="Where the records are kept.")
@click.option("--work", type=_FOLDER, default=_ROOT / "runs/studies", show_default="runs/studies")
@click.option("--workers", default=",".join(map(str, WORKERS)), metavar="N,N")
@click.option("--epochs", type=click.IntRange(1), default=10)
@click.option("--samples", type=click.IntRange(2, WHOLE), default=WHOLE, help="Training images.")
@click.option("--seed", type=click.IntRange(0), default=0)
@click.option("--limit", type=click.IntRange(1), help="Make so many runs at most.")
@click.option("--again", is_flag=True, help="Also make anew those that failed.")
@click.option("--timeout", type=float, default=7200.0, help="Seconds a run.")
def run(
    model: str,
    data: Path,
    out: Path,
    work: Path,
    workers: str,
    epochs: int,
    samples: int,
    seed: int,
    limit: int | None,
    again: bool,
    timeout: float,
) -> None:
    """Train one model with every rule and number of workers."""
    counts = [int(count) for count in workers.split(",")]
    made = jobs(model, counts, RULES, epochs, samples, seed)
    records = Records(out / "run.jsonl")

    def folder() -> Path:
        return cut(data, work.absolute(), "run", samples)

    make(made, records, folder, again=again, limit=limit, timeout_seconds=timeout)


@study.command()
@click.option("--out", type=_FOLDER, required=True)
@click.option("--to", type=_FOLDER, default=_ROOT / "benchmarks" / "results")
@click.option("--date", default=time.strftime("%Y-%m-%d"), show_default="today")
def report(out: Path, to: Path, date: str) -> None:
    """Write the tables and the curves of what is there so far."""
    page = write_report(Records(out / "run.jsonl").read(), to, f"{date}-paper-convergence")
    click.echo(f"written: {page}")


if __name__ == "__main__":
    study(prog_name="python benchmarks/paper_convergence.py")
