"""Options that `train`, `run`, `resize` and `doctor` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

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
