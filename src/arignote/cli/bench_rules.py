"""`arignote bench straggler` and `arignote bench centre`: rules at work, compute emulated."""

from __future__ import annotations

from typing import Any

import click

from arignote.cli.bench_common import (
    bench_settings,
    check_memory,
    json_option,
    positive,
    print_report,
    run_bench,
)
from arignote.cli.options import placement_options

_RULES = "bsp,local-sgd,sgp,easgd,asgd,gosgd:p=0.1,adpsgd"
_SMALL_MODEL = "100000"
_ALEXNET = "60965224"


@click.command(context_settings={"show_default": True})
@placement_options
@click.option("--rules", default=_RULES, metavar="A,B,...", help="Which, as in --rule.")
@click.option("--exchange", default="auto", metavar="auto|ROUTE[:CODEC]", help="How.")
@click.option("--slow", default=2.0, metavar="S", help="How many times slower one worker is.")
@click.option("--step-seconds", default=0.02, metavar="T", help="A step of the others (a sleep).")
@click.option("--elements", default=_SMALL_MODEL, metavar="N", help="Size of the vector (float32).")
@click.option("--seconds", default=8.0, metavar="S", help="How long to time each rule.")
@json_option
def straggler(**given: Any) -> int:
    """Slow one worker down, and see what speed each rule keeps.

    Four workers, unless -n says otherwise. Compute is emulated by sleeping, since workers may
    share cores; rules, exchanges and vectors are real.
    """
    from arignote.bench.rule_report import show_straggler
    from arignote.bench.rule_request import StragglerRequest, check_slow, one_size, parse_rules
    from arignote.launch.placement import place

    settings = bench_settings(given, {}, workers=4)
    hosts = max(1, len(place(settings.launch).hosts))
    request = StragglerRequest(
        parse_rules(given["rules"], given["exchange"], hosts=hosts),
        given["exchange"],
        one_size(given["elements"]),
        check_slow(given["slow"]),
        positive("--step-seconds", given["step_seconds"]),
        positive("--seconds", given["seconds"]),
        settings.model_dump(),
    )
    report = run_bench(settings, "straggler", request.text(), dry_run=given["dry_run"])
    if isinstance(report, int):
        return report
    print_report(report, show_straggler, as_json=given["as_json"])
    return 0


@click.command(context_settings={"show_default": True})
@placement_options
@click.option("--rule", default="easgd", metavar="RULE[:K=V,...]", help="easgd or asgd.")
@click.option("--elements", default=_ALEXNET, metavar="N", help="Size of the vector (float32).")
@click.option("--period", default=10, metavar="TAU", help="Steps between visits.")
@click.option("--step-seconds", default=0.1, metavar="T", help="A step (a sleep).")
@click.option("--seconds", default=8.0, metavar="S", help="How long to time each thing.")
@json_option
def centre(**given: Any) -> int:
    """Time the visits of a centre, in shared memory or on --servers.

    Beside them plain copies of the vector, and bsp over MPI's own allreduce. With servers also
    their load, beside the model of when they are full.
    """
    from arignote.bench.rule_report import show_centre
    from arignote.bench.rule_request import (
        CentreRequest,
        check_servers,
        check_window,
        one_size,
        parse_centre_rule,
    )
    from arignote.launch.placement import place

    settings = bench_settings(given, {}, servers=True)
    period = int(positive("--period", given["period"]))
    step_seconds = positive("--step-seconds", given["step_seconds"])
    seconds = positive("--seconds", given["seconds"])
    request = CentreRequest(
        parse_centre_rule(given["rule"], period),
        one_size(given["elements"]),
        period,
        step_seconds,
        check_window(seconds, period, step_seconds),
        settings.model_dump(),
    )
    check_servers(settings.launch.servers or 0, request.elements)
    placement = place(settings.launch, centre=True)
    workers = max((host.slots for host in placement.hosts), default=placement.workers)
    check_memory(request.memory_gib(workers), workers, request.elements, "use smaller --elements")
    report = run_bench(settings, "centre", request.text(), dry_run=given["dry_run"])
    if isinstance(report, int):
        return report
    print_report(report, show_centre, as_json=given["as_json"])
    return 0
