"""The paper's scaling table: seconds per 5,120 images, train + comm + sync + wait, against n.

    python benchmarks/paper_scaling.py run --out OUT [--workers 1,2] [--only NAME,NAME]
    python benchmarks/paper_scaling.py report --out OUT

Each row is a training of some steps by `arignote train` on synthetic images of 3 x 224 x 224, of
which the first is not counted; it adds a line to OUT/run.jsonl as soon as it is over, and rows
that stand there are not measured again. One worker has one core, so that n workers on n cores are
compared with it; more workers than cores or GPUs are refused.
"""

from __future__ import annotations

import time
from pathlib import Path

import click
import psutil
from studies.runs import Records, perform
from studies.scaling import ORIGINAL, Job, results, write_report

_ROOT = Path(__file__).parents[1]
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group(help=__doc__.partition("\n")[0] if __doc__ else None)
def study() -> None:
    pass


@study.command(context_settings={"show_default": True})
@click.option("--out", type=_FOLDER, required=True, help="Where the records are kept.")
@click.option("--workers", default="1,2", metavar="N,N")
@click.option("--devices", default="", metavar="D,D", help="One a worker (cuda:0,cuda:1).")
@click.option("--only", default=",".join(ORIGINAL), metavar="NAME,NAME", help="Rows.")
@click.option("--steps", type=click.IntRange(2), default=4, help="Steps, the first not counted.")
@click.option("--exchange", default="auto")
@click.option("--side", type=click.IntRange(32), default=224, help="Pixels of an image's side.")
def run(
    out: Path, workers: str, devices: str, only: str, steps: int, exchange: str, side: int
) -> None:
    """Measure what is not measured yet."""
    named = [device for device in devices.split(",") if device]
    there = len(set(named)) if named else psutil.cpu_count(logical=False) or 1
    records = Records(out / "run.jsonl")
    over = [r["job"] for r in records.read() if r["status"] == "finished"]
    for name in only.split(","):
        if name not in ORIGINAL:
            raise click.UsageError(f"no row {name!r}; there are {', '.join(ORIGINAL)}")
        for count in map(int, workers.split(",")):
            if count > there:
                raise click.UsageError(f"{count} workers, but {there} cores or GPUs to scale over")
            job = Job(name, count, steps, exchange, side, tuple(named[:count]))
            if job.record() in over:
                continue
            click.echo(f"{time.strftime('%H:%M:%S')} {job}: ", nl=False)
            record = perform(job, Path(), 3600.0, results)
            records.add(record)
            click.echo(record.get("error") or f"{record['seconds']:.0f} s")


@study.command()
@click.option("--out", type=_FOLDER, required=True)
@click.option("--to", type=_FOLDER, default=_ROOT / "benchmarks" / "results")
@click.option("--date", default=time.strftime("%Y-%m-%d"), show_default="today")
def report(out: Path, to: Path, date: str) -> None:
    """Write the table of what is there so far."""
    page = write_report(Records(out / "run.jsonl").read(), to / f"{date}-paper-scaling.md")
    click.echo(f"written: {page}")


if __name__ == "__main__":
    study(prog_name="python benchmarks/paper_scaling.py")
