"""`arignote plot RUN...`: loss, accuracy and phases of one or several runs."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Draw loss, accuracy and phases of runs.")
@click.argument("runs", nargs=-1)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="A .png, .svg or .pdf.  [default: RUN/plot.png; of several runs ./plot.png]",
)
def plot(runs: tuple[str, ...], output: str | None) -> None:
    """Draw loss, accuracy and phases of runs (default: the newest in runs/) into one picture."""
    from arignote.cli.train import newest_run
    from arignote.recorder.plots import plot_runs

    folders = [Path(run) for run in runs] or [newest_run()]
    beside = folders[0] / "plot.png" if len(folders) == 1 else Path("plot.png")
    target = Path(output) if output else beside
    plot_runs(folders, target)
    click.echo(f"plot {target}")
