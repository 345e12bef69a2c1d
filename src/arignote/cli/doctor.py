"""`arignote doctor`: what was found here, and one line of advice for each thing wrong."""

from __future__ import annotations

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def doctor(as_json: bool) -> int:
    """Report MPI, hosts, cores, memory and devices, with advice for what is wrong."""
    import json

    from arignote.launch.doctor import examine

    report = examine()
    if as_json:
        click.echo(json.dumps(report.model_dump(), indent=1))
    else:
        for name, value in report.facts.items():
            click.echo(f"{name:<20} {value}")
        for advice in report.advice:
            click.echo(f"advice: {advice}")
        if not report.advice:
            click.echo("nothing to complain about")
    return 1 if report.advice else 0
