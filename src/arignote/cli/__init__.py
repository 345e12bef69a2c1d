"""The verbs that a person types. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import click

from arignote import __version__
from arignote.cli.bench import bench
from arignote.cli.completion import completion
from arignote.cli.data import data
from arignote.cli.doctor import doctor
from arignote.cli.inference import evaluate, export, infer
from arignote.cli.listing import list_families
from arignote.cli.plot import plot
from arignote.cli.prepare import prepare
from arignote.cli.resize import resize
from arignote.cli.run import run
from arignote.cli.submit import submit
from arignote.cli.train import train
from arignote.errors import ArignoteError, UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="arignote")
def arignote() -> None:
    """Data-parallel deep-learning training over MPI, synchronous or not."""


for command in (
    *(train, run, submit, resize, evaluate, infer, export),
    *(prepare, data),
    *(list_families, doctor, plot, bench, completion),
):
    arignote.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0, or the error's code with one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign shows another; it does not end a training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        _require_folder()
        code = arignote.main(arguments, prog_name="arignote", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except click.ClickException as error:
        code = _complain(" ".join(error.format_message().split()), error.exit_code)
    except ArignoteError as error:
        code = _complain(str(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except BrokenPipeError:
        # Somebody closed the pipe (`arignote list | head`): not our error, not worth a line.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _require_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the current folder was deleted: change to another one") from None


def _complain(message: str, code: int) -> int:
    prefix = "" if message.startswith("arignote:") else "arignote: error: "
    click.echo(prefix + message, err=True)
    return code
