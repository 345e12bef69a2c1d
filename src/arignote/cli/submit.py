"""`arignote submit MODEL`: a run as a Slurm job, which saves and is queued again in time."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from arignote.cli.train import RUNS_FOLDER, run_name, settings_of, train

_NOT_OF_JOBS = ("hosts", "hostfile", "resume", "auto_resume", "dry_run")
"""Options of `train` that Slurm, or the script, decides."""
_OF_SUBMIT = ("workers", "out")
"""Options of `train` that the script has in another form."""


@click.command(
    context_settings={"show_default": True},
    short_help="Write, and with --go submit, a job for Slurm.",
)
@click.option("--nodes", type=click.IntRange(min=1), metavar="N", help="Over how many nodes.")
@click.option(
    "--partition", default="", show_default=False, metavar="NAME", help="Slurm's partition."
)
@click.option(
    "--time",
    "limit",
    default="",
    show_default=False,
    metavar="TIME",
    help="Time limit: 90, 1:30:00, 2-0.",
)
@click.option(
    "--job-name",
    default="",
    show_default=False,
    metavar="NAME",
    help="What squeue shows.  [default: MODEL]",
)
@click.option(
    "--save-before",
    type=click.IntRange(min=15, max=65535),
    metavar="SECONDS",
    default=120,
    help="How long before its limit the run saves and the job is queued again.",
)
@click.option(
    "--sbatch", "more", metavar="OPTION", multiple=True, help="Any option of sbatch; repeatable."
)
@click.option("--to", metavar="FILE", help="Write the script there instead of printing it.")
@click.option("--go", is_flag=True, help="Submit it.")
def submit(**given: Any) -> None:
    """Write the sbatch script that trains MODEL, and with --go submit it.

    Takes the options of train; -n is the number of tasks. The run in --out goes on if it has saved
    anything, whenever the job starts.
    """
    from arignote.errors import UserError
    from arignote.launch.batch import check_request, find_sbatch, script
    from arignote.launch.batch import submit as give

    sbatch = find_sbatch() if given["go"] else ""
    request, command, run_folder = _job(given)
    check_request(request)
    text = script(request, command, run_folder, Path.cwd())
    if given["to"]:
        try:
            Path(given["to"]).write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(f"--to {given['to']} cannot be written: {error.strerror}") from None
    elif not sbatch:
        click.echo(text, nl=False)
    if sbatch:
        job = give(sbatch, text)
        click.echo(f"submitted job {job}: run folder {run_folder}, output slurm-{job}.out")


def _job(given: dict[str, Any]) -> tuple[Any, list[str], Path]:
    """(what is asked of Slurm, the command that the job runs, the run's folder)."""
    from arignote.config.settings import Launch
    from arignote.errors import UserError
    from arignote.launch.batch import Request, grace_seconds
    from arignote.launch.check import check
    from arignote.launch.run_folder import has_checkpoint

    out = Path(given["out"]) if given["out"] else None
    resumed = out if out is not None and has_checkpoint(out) else None
    asked = given | dict.fromkeys(_NOT_OF_JOBS)
    if asked["workers"] is None and asked["devices"] is None:
        asked["workers"] = given["nodes"]
    settings = settings_of(asked, resumed, here=False)
    launch = settings.launch
    if launch.hosts or launch.hostfile:
        raise UserError(
            "launch.hosts or launch.hostfile is set, but Slurm chooses the hosts: leave it out, "
            "or use --sbatch=--nodelist=NAMES"
        )
    tasks, nodes = launch.workers + (launch.servers or 0), given["nodes"] or 1
    somewhere = [f"node{i}:{-(-tasks // nodes)}" for i in range(nodes)]
    # Devices, memory and data are those of the nodes, of which we know nothing here.
    elsewhere = {"launch": launch.model_copy(update={"hosts": somewhere, "hostfile": ""})}
    check(settings.model_copy(update=elsewhere), resume=resumed is not None)
    grace = grace_seconds(
        launch.grace_seconds, Launch.model_fields["grace_seconds"].default, given["save_before"]
    )
    run_folder = out or Path(RUNS_FOLDER, f"{run_name(settings)}-{time.strftime('%Y%m%d-%H%M%S')}")
    command = [sys.executable, "-m", "arignote", "train", *_train_options(given)]
    command += ["--set", f"launch.grace_seconds={grace:g}"]
    request = Request(
        name=given["job_name"] or run_name(settings),
        tasks=tasks,
        nodes=given["nodes"],
        partition=given["partition"],
        time=given["limit"],
        save_before_seconds=given["save_before"],
        threads=launch.threads,
        more=given["more"],
    )
    return request, [*command, "--out", str(run_folder), "--auto-resume"], run_folder


def _train_options(given: dict[str, Any]) -> list[str]:
    """What was given of `train`'s, as one would type it; its workers are the job's tasks."""
    words = [given["model"]] if given["model"] else []
    for option in _shared():
        value = given[str(option.name)]
        if option.name in (*_OF_SUBMIT, "model") or value is None:
            continue
        name = max(option.opts, key=len)
        for one in value if option.multiple else (value,):
            words += [name, str(one)]
    return words


def _shared() -> list[Any]:
    return [option for option in train.params if option.name not in _NOT_OF_JOBS]


submit.params = [*_shared(), *submit.params]
