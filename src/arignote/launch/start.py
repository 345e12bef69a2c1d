"""A training run from its settings to its end, with a new start for every change of workers."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from arignote.config.settings import Launch, Settings
from arignote.launch.check import check, rule_options
from arignote.launch.ending import conclude
from arignote.launch.forking import worker_module
from arignote.launch.hostcheck.admit import admit_hosts
from arignote.launch.lock import only_launcher
from arignote.launch.placement import place
from arignote.launch.prepare import Launched, prepare_placed
from arignote.launch.resize import forget_requests
from arignote.launch.resizer import Resizer
from arignote.launch.run_folder import make_run_folder, refuse_begun
from arignote.launch.supervise import Outcome, Supervisor, stop_signals
from arignote.recorder.display import Display
from arignote.recorder.events import EventTail


def train(settings: Settings, run_folder: Path, *, resume: bool, again: bool = False) -> int:
    """Run a training to its end; the exit code.

    Args:
        again: begin also where a run has begun, for it saved nothing.

    Raises:
        UserError: a mistake in the settings, or a run folder that cannot be used.
        ArignoteError: the run failed.
    """
    launched = prepare_run(settings, run_folder, resume=resume)
    if not (resume or again):
        refuse_begun(run_folder)
    admit_hosts(settings.launch, launched.forwarded)
    asked: list[int] = []
    # Listened to all along: a signal between two starts must stop the run, not just end us.
    with only_launcher(run_folder), stop_signals(asked):
        make_run_folder(run_folder, settings, resume=resume, again=again)
        forget_requests(run_folder)
        with Display(EventTail(run_folder, from_end=resume), run_folder) as display:
            resizer = Resizer(run_folder, settings, display, partial(_check_start, run_folder))
            outcome = _supervise(launched, settings.launch, display, resizer, asked)
            while resizer.goes_on(outcome):
                settings = resizer.settings
                launched = prepare_run(settings, run_folder, resume=True)
                make_run_folder(run_folder, settings, resume=True)
                display.start_again()
                outcome = _supervise(launched, settings.launch, display, resizer, asked)
    return conclude(outcome, run_folder, settings.launch)


def prepare_run(settings: Settings, run_folder: Path, *, resume: bool) -> Launched:
    """What starts all workers of a run.

    Raises:
        UserError: the placement does not fit, or there is no MPI.
    """
    placement = place(settings.launch, centre=rule_options(settings).has_centre)
    module = worker_module(settings.launch, placement)
    command = [sys.executable, "-m", module, str(run_folder.resolve())]
    command += ["--resume"] if resume else []
    return prepare_placed(settings.launch, placement, command)


def _check_start(run_folder: Path, settings: Settings) -> None:
    """Raise a UserError if a run cannot go on with these settings."""
    check(settings, resume=True)
    prepare_run(settings, run_folder, resume=True)


def _supervise(
    launched: Launched, settings: Launch, display: Display, resizer: Resizer, asked: list[int]
) -> Outcome:
    """Run the processes and show their events."""
    supervisor = Supervisor(
        launched.flavour,
        display,
        graceful=True,
        grace_seconds=settings.grace_seconds,
        start_timeout_seconds=settings.start_timeout_seconds,
        started=lambda: display.met,
        ended=lambda: display.ended,
        must_leave=resizer.must_leave,
        asked=asked,
    )
    return supervisor.run(launched.argv, launched.environment)
