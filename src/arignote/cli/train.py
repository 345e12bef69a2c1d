"""`arignote train MODEL`: from the command line to settings, a run folder and a run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from arignote.cli.options import devices_option, placement_options
from arignote.registry import DATA, MODELS, RULES, Registry

_LATEST = "."
RUNS_FOLDER = "runs"


def _completes(registry: Registry) -> Any:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [entry.name for entry in registry if entry.name.startswith(incomplete)]

    return complete


@click.command(
    context_settings={"show_default": True}, short_help="Train a model, of the zoo or of a file."
)
@click.argument("model", required=False, shell_complete=_completes(MODELS))
@placement_options
@devices_option
@click.option(
    "--rule", metavar="RULE[:K=V,...]", shell_complete=_completes(RULES), help="When they exchange."
)
@click.option("--exchange", metavar="auto|ROUTE[:CODEC]", help="How a vector is averaged.")
@click.option("--data", metavar="SPEC", shell_complete=_completes(DATA), help="The data set.")
@click.option("--loaders", type=int, metavar="K", help="Processes a worker that load its batches.")
@click.option("--batch-size", type=int, metavar="PER_WORKER", help="Samples a worker a step.")
@click.option("--epochs", type=int, help="Passes over the data set, all workers together.")
@click.option("--steps", type=int, help="Stop after so many steps.")
@click.option("--lr", type=float, metavar="X", help="Base learning rate.")
@click.option("--seed", type=int, help="Where all randomness comes from.")
@click.option(
    "--out", metavar="DIR", help=f"The run's folder.  [default: {RUNS_FOLDER}/MODEL-TIME]"
)
@click.option(
    "--resume",
    metavar="[DIR]",
    is_flag=False,
    flag_value=_LATEST,
    help="Go on with a run: DIR, --out, or the newest one.",
)
@click.option(
    "--auto-resume", is_flag=True, help="Go on with --out if it has saved anything, else begin."
)
def train(**given: Any) -> int:
    """Train MODEL: a zoo name (see `arignote list models`), FILE.py:Class or MODULE:Class."""
    from arignote.launch.check import check
    from arignote.launch.run_folder import refuse_begun
    from arignote.launch.start import prepare_run
    from arignote.launch.start import train as start

    folder, resume = _run_folder(given)
    again = given["auto_resume"]
    settings = settings_of(given, folder if resume else None)
    check(settings, resume=resume)
    if folder is None:
        folder = Path(RUNS_FOLDER, f"{run_name(settings)}-{time.strftime('%Y%m%d-%H%M%S')}")
    if given["dry_run"]:
        if not (resume or again):
            refuse_begun(folder)
        click.echo(prepare_run(settings, folder, resume=resume).shell())
        return 0
    return start(settings, folder, resume=resume, again=again)


def run_name(settings: Any) -> str:
    """What a run is called where nobody has named its folder."""
    return str(settings.run.model.rpartition(":")[2] or settings.run.model)


def _run_folder(given: dict[str, Any]) -> tuple[Path | None, bool]:
    """(the run's folder if it is known yet, whether to resume)."""
    from arignote.errors import UserError
    from arignote.launch.run_folder import CONFIG_FILE, has_checkpoint

    asked, out = given["resume"], given["out"]
    if given["auto_resume"]:
        if asked is not None or not out:
            raise UserError("--auto-resume goes on with --out: give --out DIR, and no --resume")
        return Path(out), has_checkpoint(Path(out))
    if asked is None:
        return (Path(out) if out else None), False
    latest = Path(out) if out else None
    folder = Path(asked) if asked != _LATEST else latest or newest_run()
    if out and Path(out) != folder:
        raise UserError(f"--resume {folder} goes on in its own folder: leave out --out {out}")
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            f"{folder} is no run: it has no {CONFIG_FILE}; give the folder of a run to --resume"
        )
    return folder, True


def newest_run() -> Path:
    """The run in `runs/` that was begun last.

    Raises:
        UserError: there is none.
    """
    from arignote.errors import UserError
    from arignote.launch.run_folder import CONFIG_FILE

    runs = [path.parent for path in Path(RUNS_FOLDER).glob(f"*/{CONFIG_FILE}")]
    if not runs:
        raise UserError(f"no run in {RUNS_FOLDER}/: name the folder of one")
    return max(runs, key=lambda run: (run / CONFIG_FILE).stat().st_mtime_ns)


def _model_of(layers: list[tuple[str, dict[str, Any]]]) -> str:
    """The MODEL that the highest layer names; empty where none does (or as something else)."""
    model = ""
    for _, layer in layers:
        run = layer.get("run")
        named = run.get("model") if isinstance(run, dict) else None
        model = named if isinstance(named, str) else model
    return model


def settings_of(given: dict[str, Any], resumed: Path | None, *, here: bool = True) -> Any:
    """Settings from the model's defaults, the file (or the resumed run), the command line.

    Args:
        given: the options.
        resumed: the folder of a run that goes on.
        here: whether it is started from here, so that the allocation that we are in counts.

    Raises:
        UserError: a mistake in them.
    """
    from arignote.config.load import nest, parse_set, read_file, resolve
    from arignote.config.model_source import find_model
    from arignote.errors import UserError
    from arignote.launch.allocation import allocation_layer
    from arignote.launch.run_folder import CONFIG_FILE

    asked = []
    if given["config"] is not None:
        asked.append((given["config"], read_file(Path(given["config"]))))
    asked += [("--set", parse_set(given["assignments"])), ("", _line(given))]
    layers, before = [], {}
    if resumed is not None:
        before = read_file(resumed / CONFIG_FILE)
        layers.append((str(resumed / CONFIG_FILE), before))
    if here:
        said = [layer for _, layer in asked]
        layers.append(("", allocation_layer(said, before)))
    layers += asked
    model = _model_of(layers)
    if not model:
        resolve(layers)
    if resumed is not None:
        its = _model_of(layers[:1])
        if model != its:
            raise UserError(
                f"{resumed} is a run of {its or 'no model'}, not of {model}: leave out the "
                "model, or train it in a folder of its own"
            )
        return resolve(layers)
    source = find_model(model)
    return resolve([(f"{model}.defaults", nest(source.defaults, f"{model}.defaults")), *layers])


def _line(given: dict[str, Any]) -> dict[str, Any]:
    """What the options say, as a layer of settings."""
    from arignote.config.load import nest
    from arignote.launch.placement import launch_layer

    named = {
        "run.model": given["model"],
        "run.rule": given["rule"],
        "run.exchange": given["exchange"],
        "run.data": given["data"],
        "run.seed": given["seed"],
        "train.batch_size": given["batch_size"],
        "train.epochs": given["epochs"],
        "train.steps": given["steps"],
        "optimizer.learning_rate": given["lr"],
        "loading.loaders": given["loaders"],
    }
    line = nest({key: value for key, value in named.items() if value is not None}, "")
    line["launch"] = launch_layer(
        workers=given["workers"],
        servers=given["servers"],
        devices=given["devices"],
        hosts=given["hosts"],
        hostfile=given["hostfile"],
    )
    return line
