"""`arignote evaluate`, `infer` and `export`: use of a trained run.

torch is loaded in a child process (`arignote.inference`), once all is checked that can be.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

_checkpoint = click.option(
    "--checkpoint", default="last", metavar="last|best|NAME", help="Which of the run's checkpoints."
)
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 0.01, 1000.0
_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


@click.command(
    context_settings={"show_default": True},
    short_help="Loss and accuracy of a run on its validation set.",
)
@click.argument("run")
@click.option("--data", metavar="SPEC", help="Another data set.  [default: the run's]")
@_checkpoint
@_json
def evaluate(run: str, data: str | None, checkpoint: str, as_json: bool) -> None:
    """Loss and accuracy of RUN on the whole validation set, by one process."""
    from arignote.config.spec import parse_spec
    from arignote.registry import DATA

    _check_run(run)
    if data is not None:
        DATA.entry(parse_spec(data).name)
    result = _ask("evaluate", run, checkpoint, data=data)
    if as_json:
        click.echo(json.dumps(result))
        return
    click.echo(f"{_origin(result)} · {result['data'] or 'its own data'} · {_samples(result)}")
    click.echo(_metrics(result["metrics"], per_token=result["loss_per_token"]))


@click.command(
    context_settings={"show_default": True},
    short_help="The classes that a run sees in images; or its text.",
)
@click.argument("run")
@click.argument("files", nargs=-1)
@click.option("--top", type=click.IntRange(min=1), default=5, help="Classes shown of each file.")
@click.option("--prompt", metavar="TEXT", help="For a language model: what it goes on from.")
@click.option("--length", type=click.IntRange(1, 10**6), default=200, help="Tokens to generate.")
@click.option(
    "--temperature",
    type=float,
    default=0.8,
    help="Below 1: likelier tokens; above: rarer ones; 0: always the likeliest.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, help="Of the tokens drawn.")
@_checkpoint
@_json
def infer(
    run: str,
    files: tuple[str, ...],
    top: int,
    prompt: str | None,
    length: int,
    temperature: float,
    seed: int,
    checkpoint: str,
    as_json: bool,
) -> None:
    """The classes that RUN sees in each FILE, or what its language model says after --prompt.

    A FILE is a picture, or a text for a model that was trained on textfolder:DIR.
    """
    from arignote.errors import UserError

    if bool(files) == (prompt is not None):
        got = "both files and" if files else "neither files nor"
        raise UserError(f"got {got} --prompt: give picture or text files, or --prompt TEXT")
    # Of scores divided by less nothing finite would be left, and nan is in no range of click's.
    if temperature and not _LEAST_TEMPERATURE <= temperature <= _MOST_TEMPERATURE:
        raise UserError(
            f"--temperature {temperature:g}: expected 0, or {_LEAST_TEMPERATURE:g} ... "
            f"{_MOST_TEMPERATURE:g}"
        )
    _check_run(run)
    for file in files:
        if not Path(file).is_file():
            raise UserError(f"no file {file!r}: check the path")
    if prompt is None:
        result = _ask("classify", run, checkpoint, files=files, top=top)
    else:
        options = {"prompt": prompt, "length": length, "temperature": temperature, "seed": seed}
        result = _ask("sample", run, checkpoint, **options)
    if as_json:
        click.echo(json.dumps(result))
    elif prompt is not None:
        click.echo(result["prompt"] + result["text"])
    else:
        for file in result["files"]:
            click.echo(os.fsencode(file["file"]).decode(errors="replace"))
            for best in file["best"]:
                click.echo(f"  {best['probability']:>7.2%}  {best['class']}")


@click.command(
    context_settings={"show_default": True},
    short_help="Write a run's model: .safetensors, .pt2 or .onnx.",
)
@click.argument("run")
@click.argument("out")
@_checkpoint
@click.option("--force", is_flag=True, help="Overwrite OUT.")
def export(run: str, out: str, checkpoint: str, force: bool) -> None:
    """Write the model of RUN to OUT: .safetensors (weights), .pt2 (torch.export) or .onnx."""
    _check_run(run)
    _check_target(out, force=force)
    result = _ask("export", run, checkpoint, out=out)
    shape = "x".join(map(str, result["sample_shape"]))
    click.echo(
        f"{_origin(result)} · {result['parameters']:,} parameters · takes {result['dtype']} "
        f"Nx{shape}"
    )
    click.echo(f"export {result['out']} ({result['bytes'] / 1e6:,.1f} MB)")


def _check_run(run: str) -> None:
    """Raise a UserError if RUN is no run, or its model is not found."""
    from arignote.config.load import read_file, resolve
    from arignote.config.model_source import find_model
    from arignote.errors import UserError
    from arignote.launch.run_folder import CONFIG_FILE

    config = Path(run) / CONFIG_FILE
    if not config.is_file():
        raise UserError(f"{run} is no run: it has no {CONFIG_FILE}; give the folder of a run")
    find_model(resolve([(str(config), read_file(config))]).run.model)


def _check_target(out: str, *, force: bool) -> None:
    """Raise a UserError if nothing can be exported to this file."""
    from importlib.util import find_spec

    from arignote.errors import UserError
    from arignote.inference.request import EXPORT_FORMATS

    target = Path(out)
    if out.endswith("/"):
        raise UserError(f"{out} is a folder: name a file")
    if target.suffix not in EXPORT_FORMATS:
        raise UserError(
            f"{target} ends in {repr(target.suffix) if target.suffix else 'nothing'}, expected "
            + ", ".join(EXPORT_FORMATS)
        )
    if target.is_dir():
        raise UserError(f"{target} is a folder: name a file")
    if target.exists() and not force:
        raise UserError(f"{target} exists: choose another name, or add --force")
    if not target.parent.is_dir():
        raise UserError(f"no folder {str(target.parent)!r} to write {target.name} to: make it")
    if target.suffix == ".onnx" and not (find_spec("onnx") and find_spec("onnxscript")):
        raise UserError('.onnx needs two more packages: pip install "arignote[onnx]"')


def _ask(verb: str, run: str, checkpoint: str, **options: Any) -> dict[str, Any]:
    """The child's answer; what it remarks goes to stderr.

    Raises:
        ArignoteError: a mistake that only the child could see.
    """
    from arignote.errors import ArignoteError
    from arignote.inference.request import RESULT_PREFIX, Request

    request = Request(verb, run, checkpoint, options)
    command = [sys.executable, "-m", "arignote.inference"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as child:
        printed, _ = child.communicate(request.text())
    result: dict[str, Any] | None = None
    for line in printed.splitlines():
        if line.startswith(RESULT_PREFIX):
            result = json.loads(line.removeprefix(RESULT_PREFIX))
        elif line:
            # The model's own code may print.
            click.echo(line, err=True)
    if result is None:
        if child.returncode < 0:
            raise ArignoteError(
                f"the process that loads {run} was ended by signal {-child.returncode}"
            )
        # Its traceback is on stderr already.
        raise click.exceptions.Exit(1)
    if "error" in result:
        raise ArignoteError(result["error"])
    for remark in result["remarks"]:
        click.echo(f"arignote: {remark}", err=True)
    return result


def _origin(result: dict[str, Any]) -> str:
    return f"{result['model']} · {result['checkpoint']}"


def _samples(result: dict[str, Any]) -> str:
    count = result["samples"]
    return f"{count:,} sample{'' if count == 1 else 's'}"


def _metrics(metrics: dict[str, float], *, per_token: bool) -> str:
    """In the words in which training says it; what is no number is left out."""
    loss = metrics.get("loss")
    shown = [
        f"{label} {metrics[name]:.2%}"
        for label, name in (("accuracy", "accuracy"), ("top-5 error", "error_top5"))
        if name in metrics
    ]
    if loss is not None:
        shown.append(f"loss {loss:.4f}{' nats a token' if per_token else ''}")
    return " · ".join(shown) or "nothing was measured: the validation set is empty"
