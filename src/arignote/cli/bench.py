"""`arignote bench exchange` and `arignote bench step`: ours beside what others offer."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arignote.cli.options import placement_options

if TYPE_CHECKING:
    from arignote.bench.rows import Report
    from arignote.config.settings import Settings

_DEFAULT_ELEMENTS = "1000,100000,10000000"
_WORKERS = 2
_GLOO_NEWS = "[Gloo]"

_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.group()
def bench() -> None:
    """Time our exchanges and steps beside those of others, in one run."""


@bench.command(context_settings={"show_default": True})
@placement_options
@click.option(
    "--elements", default=_DEFAULT_ELEMENTS, metavar="N,...", help="Sizes of the vector (float32)."
)
@click.option(
    "--exchanges",
    metavar="A,B,...",
    help="Which of ours, as in --exchange.  [default: all lossless ones, and auto]",
)
@click.option("--vs", default="mpi,gloo", metavar="PEER,...", help="Peers: mpi, gloo, or none.")
@click.option("--seconds", default=10.0, metavar="S", help="How long to time each size.")
@_json_option
@click.option("--plot", metavar="FILE", help="Time against size, as a .png, .svg or .pdf.")
def exchange(**given: Any) -> int:
    """Average vectors of several sizes in every way there is.

    Each round runs every way once, so what disturbs the machine hits all alike.
    """
    from arignote.bench.request import (
        EXCHANGE_PEERS,
        ExchangeRequest,
        parse_elements,
        parse_exchanges,
        parse_peers,
    )
    from arignote.launch.placement import place

    settings = _settings(given, {})
    placement = place(settings.launch)
    exchanges = given["exchanges"]
    request = ExchangeRequest(
        parse_elements(given["elements"]),
        [] if exchanges is None else parse_exchanges(exchanges, hosts=max(1, len(placement.hosts))),
        parse_peers(given["vs"], EXCHANGE_PEERS),
        _positive("--seconds", given["seconds"]),
        settings.model_dump(),
    )
    workers = max((host.slots for host in placement.hosts), default=placement.workers)
    _check_memory(request.memory_gib(workers), workers, request.elements[-1])
    target = Path(given["plot"]) if given["plot"] else None
    if target is not None:
        from arignote.recorder.plots import check_target

        check_target(target)
    report = _run(settings, "exchange", request.text(), dry_run=given["dry_run"])
    if isinstance(report, int):
        return report
    if target is not None:
        from arignote.recorder.plots import plot_exchanges

        plot_exchanges(_curves(report), target)
    _show(report, as_json=given["as_json"])
    return 0


@bench.command(context_settings={"show_default": True})
@placement_options
@click.option("--model", default="mlp-56m", help="As in `arignote train`.")
@click.option("--vs", default="ddp", metavar="PEER", help="Peers: ddp, or none.")
@click.option("--batch-size", type=int, metavar="PER_WORKER", help="Samples a worker a step.")
@click.option("--steps", default=20, metavar="K", help="Steps of each kind that are timed.")
@click.option("--rule", metavar="RULE[:K=V,...]", help="When our workers exchange.")
@click.option("--exchange", metavar="auto|ROUTE[:CODEC]", help="How.")
@_json_option
def step(**given: Any) -> int:
    """Whole training steps: ours, DistributedDataParallel's, and those of one worker alone."""
    from arignote.bench.request import STEP_PEERS, StepRequest, parse_peers
    from arignote.config.model_source import find_model
    from arignote.launch.start import check

    named = {
        "run.model": given["model"],
        "run.rule": given["rule"],
        "run.exchange": given["exchange"],
        "train.batch_size": given["batch_size"],
    }
    settings = _settings(given, named, find_model(given["model"]).defaults)
    check(settings)
    peers = parse_peers(given["vs"], STEP_PEERS)
    steps = int(_positive("--steps", given["steps"]))
    request = StepRequest(peers, steps, settings.model_dump())
    report = _run(settings, "step", request.text(), dry_run=given["dry_run"])
    if isinstance(report, int):
        return report
    _show(report, as_json=given["as_json"])
    return 0


def _settings(
    given: dict[str, Any], named: dict[str, Any], defaults: dict[str, Any] | None = None
) -> Settings:
    """Two workers unless something says otherwise."""
    from arignote.config.load import nest, parse_set, read_file, resolve
    from arignote.errors import UserError
    from arignote.launch.placement import launch_layer

    layers = [("", {"launch": {"workers": _WORKERS}}), ("the model", nest(defaults or {}, ""))]
    if given["config"] is not None:
        layers.append((given["config"], read_file(Path(given["config"]))))
    line = nest({key: value for key, value in named.items() if value is not None}, "")
    line["launch"] = launch_layer(
        workers=given["workers"], devices=None, hosts=given["hosts"], hostfile=given["hostfile"]
    )
    settings = resolve([*layers, ("--set", parse_set(given["assignments"])), ("", line)])
    if settings.launch.workers < 2:
        raise UserError("one worker has nothing to exchange: use -n 2 or more")
    return settings


def _positive(option: str, value: float) -> float:
    from arignote.errors import UserError

    if not 0 < value < 1e6:
        raise UserError(f"{option}: got {value:g}, expected more than 0 and less than 1000000")
    return value


def _check_memory(needed_gib: float, workers: int, elements: int) -> None:
    import psutil

    from arignote.errors import UserError

    free_gib = psutil.virtual_memory().available / 2**30
    if needed_gib > free_gib:
        raise UserError(
            f"{elements} elements need about {needed_gib:.0f} GiB for the vectors of {workers} "
            f"workers on one host, but {free_gib:.0f} GiB are free: name fewer --exchanges, or "
            "smaller --elements"
        )


def _run(settings: Settings, program: str, request: str, *, dry_run: bool) -> Report | int:
    """The report of the workers; an exit code where there is none."""
    from arignote.bench.report import commit
    from arignote.bench.rows import REPORT_PREFIX, Report
    from arignote.launch.ending import failed
    from arignote.launch.start import prepare, run_script

    command = [sys.executable, "-m", f"arignote.bench.{program}", request]
    if dry_run:
        click.echo(prepare(settings.launch, command).shell())
        return 0
    # The launcher may be on another host than rank 0, so its stdout is the way.
    with redirect_stdout(io.StringIO()) as printed:
        code = run_script(settings.launch, command)
    found: Report | None = None
    for line in printed.getvalue().splitlines():
        if line.startswith(REPORT_PREFIX):
            parsed = Report.parse(line.removeprefix(REPORT_PREFIX))
            found = Report(parsed.machine, commit(), parsed.rows)
        elif line.strip() and not line.startswith(_GLOO_NEWS):
            click.echo(line, err=True)
    if code:
        return code
    if found is None:
        raise failed("the workers ended without a report")
    return found


def _show(report: Report, *, as_json: bool) -> None:
    from arignote.bench.report import show

    if as_json:
        click.echo(report.text())
    else:
        show(report)


def _curves(report: Report) -> dict[str, list[tuple[int, float, float, float]]]:
    """For a plot: (elements, median, lower and upper quartile) of each name."""
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for row in report.rows:
        curves.setdefault(row.name, []).append((row.elements, row.median_seconds, *row.spread))
    return curves
