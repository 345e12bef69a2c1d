"""`arignote resize [RUN] -n 4`: change the workers of a run while it goes on."""

from __future__ import annotations

from pathlib import Path

import click

from arignote.cli.options import devices_option, where_options


@click.command(short_help="Let workers join or leave a run as it goes on.")
@click.argument("run", required=False)
@where_options
@devices_option
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=120.0,
    show_default=True,
    help="How long to wait until the run goes on.",
)
def resize(
    run: str | None,
    workers: int | None,
    servers: int | None,
    hosts: str | None,
    hostfile: str | None,
    devices: str | None,
    timeout_seconds: float,
) -> None:
    """Let workers join or leave RUN (a run's folder; default: the newest in runs/) as it goes on.

    They finish a step and save, and the run goes on from there with the new ones.
    """
    from arignote.cli.train import newest_run
    from arignote.errors import UserError
    from arignote.launch.placement import launch_layer
    from arignote.launch.resize import ask
    from arignote.launch.run_folder import CONFIG_FILE

    folder = Path(run) if run else newest_run()
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f"{folder} is no run: it has no {CONFIG_FILE}; give the folder of a run to resize"
        )
    launch = launch_layer(
        workers=workers, servers=servers, devices=devices, hosts=hosts, hostfile=hostfile
    )
    if not launch:
        raise UserError("nothing to change: say how many workers (-n 4), or where (--hosts A:4)")
    click.echo(ask(folder, launch, timeout_seconds=timeout_seconds))
