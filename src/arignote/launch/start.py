"""The two things that can be launched: a training run, and a user's own script."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arignote.config.load import to_toml
from arignote.config.model_source import find_model
from arignote.config.rule_options import parse_exchange, parse_rule
from arignote.config.settings import Launch, Settings
from arignote.config.spec import parse_spec
from arignote.errors import ArignoteError, UserError
from arignote.launch.find import find_launcher
from arignote.launch.flavours.base import Death, Flavour, Job
from arignote.launch.placement import Placement, place
from arignote.launch.supervise import Outcome, Supervisor, describe_environment, own_environment
from arignote.recorder.display import Display
from arignote.recorder.events import EventTail, read_events
from arignote.recorder.summary import read_summary
from arignote.registry import DATA, MODELS

CONFIG_FILE = "config.toml"


@dataclass(frozen=True)
class Launched:
    """A command line, ready to be started."""

    argv: list[str]
    environment: dict[str, str]
    flavour: Flavour

    def shell(self) -> str:
        """As one would type it."""
        return shlex.join(self.argv)


def prepare(settings: Launch, command: list[str]) -> Launched:
    """The argv and environment that start `command` as all workers.

    Raises:
        UserError: the placement does not fit, or there is no MPI.
    """
    placement = place(settings)
    found = find_launcher(settings)
    environment = own_environment() | _worker_environment(placement)
    if found.library:
        environment["MPI4PY_LIBMPI"] = found.library
    forwarded = describe_environment(environment)
    for name in settings.environment:
        if name not in environment:
            raise UserError(f"launch.environment: {name!r} is not set here, so it cannot be passed")
        forwarded[name] = environment[name]
    for name in _worker_environment(placement):
        forwarded[name] = environment[name]
    job = Job(
        program=found.program,
        placement=placement,
        bind=settings.bind,
        command=tuple(command),
        environment=forwarded,
        extra=tuple(settings.mpirun_arguments),
        as_root=hasattr(os, "geteuid") and os.geteuid() == 0,
    )
    return Launched(found.flavour.argv(job), environment, found.flavour)


def _worker_environment(placement: Placement) -> dict[str, str]:
    """What every worker is told through its environment."""
    threads = str(placement.threads)
    return {
        "ARIGNOTE_WORKERS": str(placement.workers),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # Open MPI 5.0 prints a harmless line about it otherwise.
        "OMPI_MCA_osc": "^ucx",
    }


def check(settings: Settings) -> None:
    """Find every mistake in the settings that can be known without starting a process.

    Raises:
        UserError: the first one found.
    """
    find_model(settings.run.model)
    parse_rule(settings.run.rule)
    parse_exchange(settings.run.exchange)
    if settings.run.data:
        DATA.entry(parse_spec(settings.run.data).name)
    elif settings.run.model in MODELS:
        raise UserError(
            f"{settings.run.model} brings no data of its own: name some with --data, such as "
            "imagefolder:DIR; see `arignote list data`"
        )


def train(settings: Settings, run_folder: Path, *, resume: bool) -> int:
    """Run a training to its end; the exit code.

    Raises:
        UserError: a mistake in the settings, or a run folder that cannot be used.
        ArignoteError: the run failed.
    """
    launched = prepare(settings.launch, worker_command(run_folder, resume=resume))
    make_run_folder(run_folder, settings, resume=resume)
    tail = EventTail(run_folder, from_end=resume)
    with Display(tail, run_folder) as display:
        supervisor = Supervisor(
            launched.flavour,
            display,
            graceful=launched.flavour.passes_usr1,
            grace_seconds=settings.launch.grace_seconds,
            start_timeout_seconds=settings.launch.start_timeout_seconds,
            started=lambda: display.met,
        )
        outcome = supervisor.run(launched.argv, launched.environment)
    return conclude(outcome, run_folder, settings.launch)


def worker_command(run_folder: Path, *, resume: bool) -> list[str]:
    """The argv of one worker."""
    command = [sys.executable, "-m", "arignote.worker", str(run_folder.resolve())]
    return [*command, "--resume"] if resume else command


def make_run_folder(run_folder: Path, settings: Settings, *, resume: bool) -> None:
    """Create the folder and write the resolved settings into it.

    Raises:
        UserError: it cannot be written, or holds another run already.
    """
    config = run_folder / CONFIG_FILE
    if config.exists() and not resume:
        raise UserError(
            f"{run_folder} holds a run already: choose another --out, or go on with "
            f"--resume {run_folder}"
        )
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        config.write_text(to_toml(settings))
    except OSError as error:
        raise UserError(f"run folder {run_folder} cannot be written: {error.strerror}") from None


def conclude(outcome: Outcome, run_folder: Path, settings: Launch) -> int:
    """Say how the run ended; the exit code."""
    if outcome.report is not None and not outcome.asked_to_stop:
        raise_report(outcome)
    summary = read_summary(run_folder)
    resume = f"arignote train --resume {run_folder}"
    if outcome.asked_to_stop:
        saved = summary is not None and summary.status == "stopped"
        name = signal.Signals(outcome.asked_to_stop).name
        what = f"saved at step {summary.steps}" if saved and summary else "the last save stands"
        sys.stderr.write(f"arignote: stopped by {name}, {what}; go on with: {resume}\n")
        return 128 + outcome.asked_to_stop
    if outcome.overdue:
        raise _failed(
            f"not all {settings.workers} workers came to the first meeting within "
            f"{settings.start_timeout_seconds:g} s (launch.start_timeout_seconds): run "
            "`arignote doctor`, and look whether every host can be reached"
        )
    if outcome.death is not None:
        raise _failed(f"{_who(outcome.death, run_folder)}; all others were ended; resume: {resume}")
    if outcome.exit_code:
        raise _failed(f"the launcher ended with code {outcome.exit_code}; resume: {resume}")
    if summary is not None and summary.status == "stopped":
        sys.stderr.write(f"arignote: the workers were told to stop; go on with: {resume}\n")
        return 128 + signal.SIGTERM
    return 0


def raise_report(outcome: Outcome) -> None:
    """Raise what the worker that failed first reported."""
    assert outcome.report is not None
    if outcome.report.expected:
        error = ArignoteError(outcome.report.message)
    else:
        error = WorkerError(outcome.report.text())
    error.exit_code = outcome.report.exit_code
    raise error


class WorkerError(ArignoteError):
    """An uncaught exception in a worker: its text is a traceback already."""

    exit_code = 1


def _failed(message: str) -> ArignoteError:
    error = ArignoteError(message)
    error.exit_code = 1
    return error


def _who(death: Death, run_folder: Path | None) -> str:
    """`worker 1 (host a, pid 7) was killed by SIGKILL`, as well as it is known."""
    name = signal.Signals(death.signal).name
    peers: list[dict[str, Any]] = []
    if run_folder is not None:
        starts = [event for event in read_events(run_folder) if event["event"] == "start"]
        peers = starts[-1]["peers"] if starts else []
    for peer in peers:
        if death.rank == peer["rank"] or death.pid == peer["pid"] or len(peers) == 1:
            return (
                f"worker {peer['rank']} (host {peer['host']}, pid {peer['pid']}) was killed by "
                f"{name}"
            )
    if death.rank is not None:
        return f"worker {death.rank} was killed by {name}"
    return f"a worker{f' (pid {death.pid})' if death.pid else ''} was killed by {name}"


class _Plain:
    """A screen that passes lines on."""

    def line(self, text: str, *, error: bool) -> None:
        (sys.stderr if error else sys.stdout).write(text + "\n")

    def refresh(self) -> None:
        sys.stdout.flush()


def run_script(settings: Launch, command: list[str]) -> int:
    """Start a user's script as all workers; the exit code.

    Raises:
        ArignoteError: a worker failed.
    """
    launched = prepare(settings, command)
    supervisor = Supervisor(
        launched.flavour, _Plain(), graceful=False, grace_seconds=settings.grace_seconds
    )
    outcome = supervisor.run(launched.argv, launched.environment)
    if outcome.asked_to_stop:
        return 128 + outcome.asked_to_stop
    if outcome.report is not None:
        raise_report(outcome)
    if outcome.death is not None:
        raise _failed(f"{_who(outcome.death, None)}; all others were ended")
    return outcome.exit_code
