"""What is wrong with a run's settings, as far as that is known before a process is started."""

from __future__ import annotations

from pathlib import Path

from arignote.config.exchange_options import check_fits_rule, check_placement, parse_exchange
from arignote.config.model_source import find_model
from arignote.config.rule_options import EASGDOptions, RuleOptions, parse_rule
from arignote.config.settings import Settings
from arignote.config.spec import Spec, parse_spec
from arignote.data.patterns import match_files
from arignote.errors import UserError
from arignote.launch.placement import place
from arignote.registry import DATA, MODELS


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
