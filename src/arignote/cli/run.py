"""`arignote run -n 2 script.py ...`: start a user's own script as workers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from arignote.cli.options import placement_options


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Start a script that calls arignote.attach, as workers.",
)
@placement_options
@click.argument("script")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    script: str,
    arguments: tuple[str, ...],
    workers: int | None,
    servers: int | None,
    hosts: str | None,
    hostfile: str | None,
    assignments: tuple[str, ...],
    config: str | None,
    dry_run: bool,
) -> int:
    """Start SCRIPT (a Python file that calls arignote.attach) as workers.

    Everything after SCRIPT goes to the script.
    """
    from arignote.config.load import parse_set, read_file, resolve
    from arignote.errors import UserError
    from arignote.launch.allocation import allocation_layer
    from arignote.launch.placement import launch_layer
    from arignote.launch.prepare import prepare
    from arignote.launch.script import run_script

    if not Path(script).is_file():
        raise UserError(f"no script {script!r}: check the path; options of ours stand before it")
    placement: dict[str, Any] = launch_layer(
        workers=workers, servers=servers, devices=None, hosts=hosts, hostfile=hostfile
    )
    layers = [] if config is None else [(config, read_file(Path(config)))]
    layers += [("--set", parse_set(assignments)), ("", {"launch": placement})]
    allocated = allocation_layer([layer for _, layer in layers], {})
    settings = resolve([("", allocated), *layers]).launch
    command = [sys.executable, script, *arguments]
    if dry_run:
        click.echo(prepare(settings, command).shell())
        return 0
    return run_script(settings, command)
