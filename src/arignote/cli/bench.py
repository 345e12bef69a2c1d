"""`arignote bench`: ours beside what others offer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arignote.cli.bench_common import (
    bench_settings,
    check_memory,
    json_option,
    positive,
    print_report,
    run_bench,
)
from arignote.cli.bench_loader import loader
from arignote.cli.bench_rules import centre, straggler
from arignote.cli.options import placement_options

if TYPE_CHECKING:
    from arignote.bench.rows import Report

_DEFAULT_ELEMENTS = "1000,100000,10000000"


@click.group(short_help="Time exchanges, steps, rules and loaders beside others.")
def bench() -> None:
    """Time our exchanges, steps, rules and loaders beside others, in one run."""


bench.add_command(straggler)
bench.add_command(centre)
bench.add_command(loader)


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
@json_option
@click.option("--plot", metavar="FILE", help="Time against size, as a .png, .svg or .pdf.")
def exchange(**given: Any) -> int:
    """Average vectors of several sizes in every way there is.

    Each round runs every way once, so what disturbs the machine hits all alike.
    """
    from arignote.bench.report import show
    from arignote.bench.request import (
        EXCHANGE_PEERS,
        ExchangeRequest,
        parse_elements,
        parse_exchanges,
        parse_peers,
    )
    from arignote.launch.placement import place

    settings = bench_settings(given, {})
    placement = place(settings.launch)
    exchanges = given["exchanges"]
    request = ExchangeRequest(
        parse_elements(given["elements"]),
        [] if exchanges is None else parse_exchanges(exchanges, hosts=max(1, len(placement.hosts))),
        parse_peers(given["vs"], EXCHANGE_PEERS),
        positive("--seconds", given["seconds"]),
        settings.model_dump(),
    )
    workers = max((host.slots for host in placement.hosts), default=placement.workers)
    check_memory(
        request.memory_gib(workers),
        workers,
        request.elements[-1],
        "name fewer --exchanges, or smaller --elements",
    )
    target = Path(given["plot"]) if given["plot"] else None
    if target is not None:
        from arignote.recorder.plots import check_target

        check_target(target)
    report = run_bench(settings, "exchange", request.text(), dry_run=given["dry_run"])
    if isinstance(report, int):
        return report
    if target is not None:
        from arignote.recorder.plots import plot_exchanges

        plot_exchanges(_curves(report), target)
    print_report(report, show, as_json=given["as_json"])
    return 0


@bench.command(context_settings={"show_default": True})
@placement_options
@click.option("--model", default="mlp-56m", help="As in `arignote train`.")
@click.option("--data", metavar="SPEC", help="As in `arignote train`.")
@click.option("--vs", default="ddp", metavar="PEER", help="Peers: ddp, or none.")
@click.option("--batch-size", type=int, metavar="PER_WORKER", help="Samples a worker a step.")
@click.option("--steps", default=20, metavar="K", help="Steps of each kind that are timed.")
@click.option("--rule", metavar="RULE[:K=V,...]", help="When our workers exchange.")
@click.option("--exchange", metavar="auto|ROUTE[:CODEC]", help="How.")
@json_option
def step(**given: Any) -> int:
    """Whole training steps: ours, DistributedDataParallel's, and those of one worker alone."""
    from arignote.bench.report import show
    from arignote.bench.request import STEP_PEERS, StepRequest, check_precision, parse_peers
    from arignote.config.model_source import find_model
    from arignote.launch.check import check

    named = {
        "run.model": given["model"],
        "run.data": given["data"],
        "run.rule": given["rule"],
        "run.exchange": given["exchange"],
        "train.batch_size": given["batch_size"],
    }
    settings = bench_settings(given, named, find_model(given["model"]).defaults, least=1)
    check(settings)
    check_precision(settings.train.precision)
    peers = parse_peers(given["vs"], STEP_PEERS)
    steps = int(positive("--steps", given["steps"]))
    request = StepRequest(peers, steps, settings.model_dump())
    report = run_bench(settings, "step", request.text(), dry_run=given["dry_run"])
    if isinstance(report, int):
        return report
    print_report(report, show, as_json=given["as_json"])
    return 0


def _curves(report: Report) -> dict[str, list[tuple[int, float, float, float]]]:
    """For a plot: (elements, median, lower and upper quartile) of each name."""
    from arignote.bench.rows import Row

    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for row in report.rows:
        assert isinstance(row, Row)
        curves.setdefault(row.name, []).append((row.elements, row.median_seconds, *row.spread))
    return curves
