"""The two things that can be launched: a training run, and a user's own script."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from arignote.config.devices import any_accelerator
from arignote.config.exchange_options import check_fits_rule, check_placement, parse_exchange
from arignote.config.load import to_toml
from arignote.config.model_source import find_model
from arignote.config.rule_options import EASGDOptions, RuleOptions, parse_rule
from arignote.config.settings import Launch, Settings
from arignote.config.spec import Spec, parse_spec
from arignote.data.patterns import match_files
from arignote.errors import UserError
from arignote.launch.ending import conclude, failed, raise_report, who
from arignote.launch.environment import forwarded_environment, own_environment, worker_environment
from arignote.launch.find import find_launcher
from arignote.launch.flavours.base import Flavour, Job
from arignote.launch.forking import worker_module
from arignote.launch.hostcheck.admit import admit_hosts
from arignote.launch.lock import only_launcher
from arignote.launch.placement import place
from arignote.launch.resize import forget_requests
from arignote.launch.resizer import Resizer
from arignote.launch.supervise import Outcome, Supervisor, stop_signals
from arignote.recorder.display import Display
from arignote.recorder.events import EVENTS_FILE, EventTail, read_events
from arignote.recorder.summary import SUMMARY_FILE
from arignote.registry import DATA, MODELS

CONFIG_FILE = "config.toml"


@dataclass(frozen=True)
class Launched:
    """A command line, ready to be started."""

    argv: list[str]
    environment: dict[str, str]
    flavour: Flavour
    forwarded: dict[str, str]
    """The part of the environment that workers on other hosts get."""

    def shell(self) -> str:
        """As one would type it."""
        return shlex.join(self.argv)


def prepare(settings: Launch, command: list[str], *, centre: bool | None = None) -> Launched:
    """The argv and environment that start `command` as all workers (and servers).

    Args:
        centre: whether the rule has one; None: unknown.

    Raises:
        UserError: the placement does not fit, or there is no MPI.
    """
    placement = place(settings, centre=centre)
    found = find_launcher(settings)
    environment = own_environment() | worker_environment(placement)
    if found.library:
        environment["MPI4PY_LIBMPI"] = found.library
    job = Job(
        program=found.program,
        placement=placement,
        # Workers on GPUs bind themselves, to cores near theirs: comm/location.py.
        bind=settings.bind and not any_accelerator(settings.devices),
        command=tuple(command),
        environment=forwarded_environment(settings, placement, environment),
        extra=tuple(settings.mpirun_arguments),
        as_root=hasattr(os, "geteuid") and os.geteuid() == 0,
        tune_ethernet=settings.ethernet_tuning,
        launcher_environment=environment,
    )
    return Launched(found.flavour.argv(job), environment, found.flavour, job.environment)


def check(settings: Settings, *, resume: bool = False) -> None:
    """Find every mistake in the settings that can be known without starting a process.

    Args:
        resume: of a run that goes on.

    Raises:
        UserError: the first one found.
    """
    find_model(settings.run.model)
    options = rule_options(settings)
    if settings.train.balance and options.asynchronous:
        raise UserError(
            "train.balance is for rules whose workers keep step; with "
            f"{settings.run.rule} each takes batches at its own speed already: leave it out"
        )
    _check_momentum(settings, options)
    exchange = parse_exchange(settings.run.exchange)
    check_fits_rule(exchange, settings.run.rule, options.carries)
    if options.asynchronous and settings.train.batch_norm == "synchronised":
        raise UserError(
            "train.batch_norm=synchronised has all workers meet in every layer, and with "
            f"{settings.run.rule} they do not keep step: use local, or another rule"
        )
    placement = place(settings.launch, centre=options.has_centre)
    hosts = max(1, len(placement.hosts))
    check_placement(exchange, devices=settings.launch.devices, hosts=hosts)
    if settings.loading.start == "mpi_spawn" and placement.processes == 1:
        raise UserError(
            "loading.start='mpi_spawn' is for workers that MPI starts, and one worker runs without "
            "MPI: leave it at 'worker', or use -n 2"
        )
    if settings.train.weights and not resume:
        _check_weights(settings)
    if settings.run.data:
        _check_data(settings)
    elif settings.run.model in MODELS:
        raise UserError(
            f"{settings.run.model} brings no data of its own: name some with --data, such as "
            "imagefolder:DIR or text:FILE; see `arignote list data`"
        )


def _check_momentum(settings: Settings, options: RuleOptions) -> None:
    """EAMSGD's momentum goes around an optimizer that has none: two would multiply."""
    if not isinstance(options, EASGDOptions) or not options.momentum:
        return
    optimizer = settings.optimizer
    own = f"momentum {optimizer.momentum:g}" if optimizer.momentum else "moments"
    if optimizer.momentum or optimizer.name.startswith("adam"):
        raise UserError(
            f"{settings.run.rule} brings a momentum, and the optimizer ({optimizer.name}) has "
            f"{own} of its own: add --set optimizer.name=sgd --set optimizer.momentum=0, or leave "
            "out the rule's"
        )


def rule_options(settings: Settings) -> RuleOptions:
    """The options of the run's rule."""
    return parse_rule(settings.run.rule)[1]


def _check_weights(settings: Settings) -> None:
    here = not (settings.launch.hosts or settings.launch.hostfile)
    if here and not Path(settings.train.weights).is_file():
        raise UserError(f"train.weights: no file {settings.train.weights!r}: check the path")


def _check_data(settings: Settings) -> None:
    spec = parse_spec(settings.run.data)
    if spec.name not in DATA and Path(settings.run.data).exists():
        raise UserError(
            f"--data: got the path {settings.run.data!r}, expected what it is: a folder of images "
            f"is imagefolder:{settings.run.data}, a prepared one shards:{settings.run.data}; see "
            "`arignote list data`"
        )
    entry = DATA.entry(spec.name)
    if not (entry.in_folder or entry.in_file or entry.in_files):
        return
    what, form = ("folder", "DIR") if entry.in_folder else ("file", "FILE")
    if entry.in_files:
        what, form = "file pattern", "PATTERN"
    if len(spec.arguments) != 1:
        raise UserError(
            f"data {settings.run.data!r} names {len(spec.arguments)} {what}s, expected one: "
            f"{spec.name}:{form}"
        )
    if settings.launch.hosts or settings.launch.hostfile:
        return
    path = Path(spec.arguments[0])
    if entry.in_files:
        _check_patterns(spec)
    elif not (path.is_dir() if entry.in_folder else path.is_file()):
        raise UserError(
            f"data {settings.run.data!r}: no {what} {spec.arguments[0]!r}: check the path"
        )


def _check_patterns(spec: Spec) -> None:
    """Whether there are files for them; in a folder it is up to the data set which it wants."""
    (pattern,) = spec.arguments
    if not Path(pattern).is_dir():
        match_files(pattern)
    if spec.options.get("validation"):
        match_files(spec.options["validation"])


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
        UserError: as `prepare`.
    """
    centre = rule_options(settings).has_centre
    module = worker_module(settings.launch, centre=centre)
    command = [sys.executable, "-m", module, str(run_folder.resolve())]
    command += ["--resume"] if resume else []
    return prepare(settings.launch, command, centre=centre)


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


def make_run_folder(
    run_folder: Path, settings: Settings, *, resume: bool, again: bool = False
) -> None:
    """Create the folder and write the resolved settings into it; `again`: see `train`.

    Raises:
        UserError: it cannot be written, or holds another run already.
    """
    try:
        if not resume:
            if not again:
                refuse_begun(run_folder)
            # Left by a run that failed before its first step, or before it saved one.
            (run_folder / EVENTS_FILE).unlink(missing_ok=True)
        # What an earlier part of the run came to is no longer its end.
        (run_folder / SUMMARY_FILE).unlink(missing_ok=True)
        run_folder.mkdir(parents=True, exist_ok=True)
        # Renamed into place: a full disk must not cost the run the config that it has.
        temporary = run_folder / f".{CONFIG_FILE}"
        temporary.write_text(to_toml(settings), encoding="utf-8")
        temporary.replace(run_folder / CONFIG_FILE)
    except UnicodeError:
        raise UserError("a setting holds text that is not valid UTF-8: rename that path") from None
    except OSError as error:
        raise UserError(f"run folder {run_folder} cannot be written: {error.strerror}") from None


def has_checkpoint(run_folder: Path) -> bool:
    """Whether a run has saved anything in this folder."""
    return any((run_folder / "checkpoints").glob("step-*"))


def refuse_begun(run_folder: Path) -> None:
    """Raise a UserError if a run has begun in this folder."""
    if any(event["event"] == "begin" for event in read_events(run_folder)):
        raise UserError(
            f"{run_folder} holds a run already: choose another --out, or go on with "
            f"--resume {run_folder}"
        )


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
    admit_hosts(settings, launched.forwarded)
    supervisor = Supervisor(
        launched.flavour,
        _Plain(),
        graceful=False,
        grace_seconds=settings.grace_seconds,
        start_timeout_seconds=settings.start_timeout_seconds,
    )
    outcome = supervisor.run(launched.argv, launched.environment)
    if outcome.asked_to_stop:
        return 128 + outcome.asked_to_stop
    if outcome.report is not None:
        raise_report(outcome)
    if outcome.overdue:
        raise failed(
            f"not all {settings.workers} workers joined within "
            f"{settings.start_timeout_seconds:g} s of the first (launch.start_timeout_seconds): "
            + (", ".join(outcome.late) or "one left before arignote.attach, or never got there")
        )
    if outcome.death is not None:
        raise failed(f"{who(outcome.death, None, settings.workers)}; all others were ended")
    return outcome.exit_code
