"""A run as a Slurm job: the script for sbatch, and giving it to sbatch.

Some time before its limit Slurm sends USR1 to the script, which passes it on: all workers save at
the same step and leave. The script then has the job queued again, and next time goes on from there.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from arignote.errors import UserError

_SPARE_SECONDS = 5
"""Between the run's end and the job's, for the script."""
_SBATCH_SECONDS = 60
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", re.ASCII)
_OPTION = re.compile(r"--([a-z][a-z-]*)(?:=([^\n\r]*))?|-[A-Za-z][^\n\r]*", re.ASCII)
_OURS = {
    "nodes": "--nodes",
    "N": "--nodes",
    "ntasks": "-n",
    "n": "-n",
    "time": "--time",
    "t": "--time",
    "partition": "--partition",
    "p": "--partition",
    "signal": "--save-before",
    "cpus-per-task": "--set launch.threads=K",
    "c": "--set launch.threads=K",
    "job-name": "--job-name",
    "J": "--job-name",
}
"""What sbatch calls it, and our option for it."""

_SCRIPT = """\
#!/bin/bash
# Written by arignote submit. Before the time is up the run saves, and the job is queued again and
# goes on. A worker a task: `sbatch --ntasks=8` with this file goes on with another number of them.
{options}

run={run}
saved() {{ ls "$run/checkpoints" 2>/dev/null | sort | tail -n 1; }}
before=$(saved)
{command} &
trainer=$!
trap 'again=yes; kill -USR1 $trainer 2>/dev/null' USR1
trap 'again=yes; kill -TERM $trainer 2>/dev/null' TERM
again=yes
while [ "$again" ]; do  # a signal ends a wait before the run does
  again=
  wait $trainer
  code=$?
done
if [ $code -eq 138 ]; then  # stopped by USR1
  [ "$(saved)" != "$before" ] && exec scontrol requeue "$SLURM_JOB_ID"
  echo "arignote: not queued again, for no step was saved: give it more --time" >&2
fi
exit $code
"""


@dataclass(frozen=True)
class Request:
    """What is asked of Slurm."""

    name: str
    tasks: int
    """Workers and servers."""
    save_before_seconds: int
    """How long before the end of the time the run is told to save."""
    nodes: int | None = None
    partition: str = ""
    time: str = ""
    """As Slurm writes it; empty: what the partition allows."""
    threads: int = 0
    """Cores a task; 0: Slurm's default."""
    more: Sequence[str] = ()
    """Further options of sbatch."""


def check_request(request: Request) -> None:
    """Find the mistakes in it that Slurm would not tell, or only later.

    Raises:
        UserError: the first one found.
    """
    if request.nodes is not None and request.nodes > request.tasks:
        raise UserError(
            f"{request.nodes} nodes for {request.tasks} workers: each node takes at least one, so "
            f"use -n {request.nodes}, or --nodes {request.tasks}"
        )
    for option, text in (("--partition", request.partition), ("--job-name", request.name)):
        if text and (not text.isprintable() or " " in text):
            raise UserError(f"{option} is {text!r}: expected a name without spaces")
    if request.time:
        limit = seconds(request.time)
        if limit <= request.save_before_seconds:
            raise UserError(
                f"--time {request.time} is {limit} s, but the run is to save "
                f"{request.save_before_seconds} s before its end: give it more time, or a smaller "
                "--save-before"
            )
    for option in request.more:
        _check_option(option)


def _check_option(option: str) -> None:
    match = _OPTION.fullmatch(option)
    if match is None:
        raise UserError(
            f"--sbatch got {option!r}, expected one of sbatch's options, such as "
            "--sbatch=--account=NAME"
        )
    name = match.group(1) or option[1]
    if name in _OURS:
        raise UserError(f"--sbatch got {option!r}, which submit sets itself: use {_OURS[name]}")


def seconds(time: str) -> int:
    """A time limit as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.

    >>> seconds("1-2:30")
    95400

    Raises:
        UserError: it is none.
    """
    match = _TIME.fullmatch(time)
    if match is None:
        raise UserError(
            f"--time is {time!r}, expected minutes, H:M:S or D-H:M:S, such as 90 or 1:30:00"
        )
    days = match.group(1)
    first, second, third = (int(group or 0) for group in match.groups()[1:])
    if days is not None:
        return ((int(days) * 24 + first) * 60 + second) * 60 + third
    if match.group(4) is not None:
        return (first * 60 + second) * 60 + third
    return first * 60 + second


def grace_seconds(given: float, default: float, save_before_seconds: int) -> float:
    """How long the workers may take to save: what is given, else what Slurm leaves them.

    Raises:
        UserError: more is given than Slurm leaves.
    """
    most = max(1.0, float(save_before_seconds - _SPARE_SECONDS))
    if given == default:
        return min(most, 3600.0)
    if given > most:
        raise UserError(
            f"launch.grace_seconds={given:g}, but Slurm ends the job {save_before_seconds} s after "
            f"it told it to save: use --save-before {int(given) + _SPARE_SECONDS + 1}"
        )
    return given


def script(request: Request, command: Sequence[str], run_folder: Path, folder: Path) -> str:
    """The text of the file for sbatch.

    Args:
        command: starts the run, or goes on with it.
        folder: where it is to be started.
    """
    options = [
        f"--job-name={request.name}",
        f"--chdir={folder}",
        f"--ntasks={request.tasks}",
        f"--signal=B:USR1@{request.save_before_seconds}",
        "--requeue",
        # What it said before it was queued again is kept.
        "--open-mode=append",
    ]
    if request.nodes is not None:
        options.append(f"--nodes={request.nodes}")
    if request.partition:
        options.append(f"--partition={request.partition}")
    if request.time:
        options.append(f"--time={request.time}")
    if request.threads:
        options.append(f"--cpus-per-task={request.threads}")
    lines = [f"#SBATCH {shlex.quote(option)}" for option in [*options, *request.more]]
    return _SCRIPT.format(
        options="\n".join(lines), run=shlex.quote(str(run_folder)), command=shlex.join(command)
    )


def find_sbatch() -> str:
    """Where sbatch is.

    Raises:
        UserError: there is none.
    """
    found = shutil.which("sbatch")
    if found is None:
        raise UserError(
            "no sbatch on PATH: leave out --go, and give the script to Slurm where it has one"
        )
    return found


def submit(sbatch: str, text: str) -> str:
    """Give a script to sbatch; the job's number.

    Raises:
        UserError: Slurm refuses it, or does not answer.
    """
    try:
        done = subprocess.run(
            [sbatch, "--parsable"],
            input=text,
            capture_output=True,
            text=True,
            timeout=_SBATCH_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"sbatch failed ({error}): look with sinfo whether Slurm answers") from None
    if done.returncode:
        why = "; ".join(line.removeprefix("sbatch: error: ") for line in done.stderr.splitlines())
        raise UserError(f"Slurm refuses the job: {why or f'exit code {done.returncode}'}")
    return done.stdout.strip().partition(";")[0]
