"""What all verbs of `arignote bench` have in common."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from arignote.bench.rows import Report
    from arignote.config.settings import Settings

_GLOO_NEWS = "[Gloo]"

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def bench_settings(
    given: dict[str, Any],
    named: dict[str, Any],
    defaults: dict[str, Any] | None = None,
    *,
    workers: int = 2,
    least: int = 2,
    servers: bool = False,
) -> Settings:
    """What the options of a bench say.

    Args:
        workers: where nothing says how many.
        least: workers that this bench makes sense with.
        servers: whether this bench has something for them to do.
    """
    from arignote.config.load import nest, parse_set, read_file, resolve
    from arignote.errors import UserError
    from arignote.launch.placement import launch_layer

    layers = [("", {"launch": {"workers": workers}}), ("the model", nest(defaults or {}, ""))]
    if given["config"] is not None:
        layers.append((given["config"], read_file(Path(given["config"]))))
    line = nest({key: value for key, value in named.items() if value is not None}, "")
    line["launch"] = launch_layer(
        workers=given["workers"],
        servers=given["servers"],
        devices=None,
        hosts=given["hosts"],
        hostfile=given["hostfile"],
    )
    settings = resolve([*layers, ("--set", parse_set(given["assignments"])), ("", line)])
    if settings.launch.workers < least:
        raise UserError("one worker has nothing to exchange: use -n 2 or more")
    if settings.launch.servers and not servers:
        raise UserError("this bench has no centre for a server to hold: leave out --servers")
    return settings


def positive(option: str, value: float) -> float:
    """`value`, of this option.

    Raises:
        UserError: it is not, or beyond all measure.
    """
    from arignote.errors import UserError

    if not 0 < value < 1e6:
        raise UserError(f"{option}: got {value:g}, expected more than 0 and less than 1000000")
    return value


def check_memory(needed_gib: float, workers: int, elements: int, advice: str) -> None:
    """Raise a UserError where the vectors do not fit into this machine's free memory."""
    import psutil

    from arignote.errors import UserError

    free_gib = psutil.virtual_memory().available / 2**30
    if needed_gib > free_gib:
        raise UserError(
            f"{elements} elements need about {needed_gib:.0f} GiB for the vectors of {workers} "
            f"workers on one host, but {free_gib:.0f} GiB are free: {advice}"
        )


def run_bench(settings: Settings, program: str, request: str, *, dry_run: bool) -> Report | int:
    """The report of the workers; an exit code where there is none."""
    from arignote.launch.ending import failed
    from arignote.launch.prepare import prepare
    from arignote.launch.script import run_script

    command = [sys.executable, "-m", f"arignote.bench.{program}", request]
    if dry_run:
        click.echo(prepare(settings.launch, command).shell())
        return 0
    # The launcher may be on another host than rank 0, so its stdout is the way.
    with redirect_stdout(io.StringIO()) as printed:
        code = run_script(settings.launch, command)
    found = find_report(printed.getvalue())
    if code:
        return code
    if found is None:
        raise failed("the workers ended without a report")
    return found


def find_report(printed: str) -> Report | None:
    """The report in what a program printed on stdout; all else there goes to stderr."""
    from arignote.bench.report import commit
    from arignote.bench.rows import REPORT_PREFIX, Report

    found: Report | None = None
    for line in printed.splitlines():
        if line.startswith(REPORT_PREFIX):
            parsed = Report.parse(line.removeprefix(REPORT_PREFIX))
            found = Report(parsed.machine, commit(), parsed.rows)
        elif line.strip() and not line.startswith(_GLOO_NEWS):
            click.echo(line, err=True)
    return found


def print_report(report: Report, show: Callable[[Report], None], *, as_json: bool) -> None:
    """As JSON, or as a table by `show`."""
    if as_json:
        click.echo(report.text())
    else:
        show(report)
