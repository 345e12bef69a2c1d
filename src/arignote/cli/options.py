"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from arignote.config.devices import ACCELERATOR, EXAMPLE
from arignote.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])

_WHERE = (
    click.option("-n", "--workers", type=int, help="Number of workers."),
    click.option(
        "--servers", type=int, metavar="K", help="Further ranks that hold the centre (easgd, asgd)."
    ),
    click.option("--hosts", metavar="A:4,B:4", help="Hosts and how many workers each takes."),
    click.option("--hostfile", metavar="FILE", help="The same from a file."),
)

_SETTINGS = (
    *_WHERE,
    click.option(
        "--set",
        "assignments",
        metavar="SECTION.KEY=VALUE",
        multiple=True,
        help="Any setting; may be repeated.",
    ),
    click.option(
        "-c", "--config", metavar="FILE", help="Settings from a TOML file (or a session.cfg)."
    ),
)

_PLACEMENT = (
    *_SETTINGS,
    click.option("--dry-run", is_flag=True, help="Print the command line, start nothing."),
)

_NAMING = (
    click.option(
        "--class-from-name",
        is_flag=True,
        help="No class folders: names are CLASS_*.jpg there.",
    ),
    click.option(
        "--val-share",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="With --class-from-name: the share that validates, by a hash of the name.  "
        "[default: 0.1]",
    ),
)
_VALIDATION_SHARE = 0.1


def devices_option(command: F) -> F:
    """Add the option that says what the workers compute on."""
    help_text = f"{ACCELERATOR}: shares out each host's GPUs; or one a worker: {EXAMPLE}."
    return click.option("--devices", metavar="D,D", help=help_text)(command)


def where_options(command: F) -> F:
    """Add the options that say how many workers run, and where."""
    for option in reversed(_WHERE):
        command = option(command)
    return command


def settings_options(command: F) -> F:
    """Add those, and the options that change any setting."""
    for option in reversed(_SETTINGS):
        command = option(command)
    return command


def placement_options(command: F) -> F:
    """Add all options that say what is started."""
    for option in reversed(_PLACEMENT):
        command = option(command)
    return command


def naming_options(command: F) -> F:
    """Add the options that say how a source of images without class folders is read."""
    for option in reversed(_NAMING):
        command = option(command)
    return command


def named_share(*, class_from_name: bool, val_share: float | None) -> float | None:
    """What they say: the share of such a source that validates; None: it has class folders.

    Raises:
        UserError: a share of none.
    """
    if class_from_name:
        return _VALIDATION_SHARE if val_share is None else val_share
    if val_share is not None:
        raise UserError(
            "--val-share splits images without folders: add --class-from-name, or leave it out"
        )
    return None
