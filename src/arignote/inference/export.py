"""`arignote export RUN OUT`: a trained model for other programs.

OUT.safetensors holds the weights alone; OUT.pt2 (torch.export) and OUT.onnx the program too, for
any number of samples at once. All of them say what the model was trained on.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from arignote.errors import UserError
from arignote.inference.load import Trained, load_trained
from arignote.inference.request import EXPORT_FORMATS, Request

METADATA_FILE = "arignote.json"
"""Inside a .pt2."""
_EXAMPLES = 2
"""Samples of the batch that is traced; with one, torch would take the batch axis for fixed."""


def export(request: Request) -> dict[str, Any]:
    """Write the model to `out`, whose ending names the format.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not fit the model.
        UserError: the file cannot be written, or the model not be traced.
    """
    trained = load_trained(Path(request.run), request.checkpoint, torch.device("cpu"))
    target = Path(request.options["out"])
    # Renamed into place, so that a file of that name is whole.
    temporary = target.with_name(f".{target.stem}.partial{target.suffix}")
    write = _WRITERS[target.suffix]
    try:
        write(trained, temporary)
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return {
        **trained.saved.facts(),
        "out": str(target),
        "bytes": target.stat().st_size,
        "parameters": sum(p.numel() for p in trained.module.parameters()),
        "dtype": str(trained.input_dtype).removeprefix("torch."),
        "sample_shape": list(trained.card.sample_shape),
    }


def metadata(trained: Trained) -> dict[str, str]:
    """What is written beside the weights: text, lists as JSON.

    An input is (pixel value 0..255 - mean) / deviation, channel by channel.
    """
    card, saved = trained.card, trained.saved
    return {
        "model": saved.settings.run.model,
        "checkpoint": saved.name,
        "classes": json.dumps(card.classes),
        "vocabulary": json.dumps(card.vocabulary),
        "sample_shape": json.dumps(card.sample_shape),
        "dtype": str(trained.input_dtype).removeprefix("torch."),
        "mean": json.dumps(card.mean),
        "deviation": json.dumps(card.deviation),
    }


def _signature(trained: Trained) -> tuple[tuple[torch.Tensor], Any]:
    """(arguments, which of their axes are free) of the module's forward."""
    example = torch.zeros(_EXAMPLES, *trained.card.sample_shape, dtype=trained.input_dtype)
    return (example,), ({0: torch.export.Dim("batch")},)


def _write_safetensors(trained: Trained, path: Path) -> None:
    # Copies: tied weights share their memory, which safetensors refuses.
    tensors = {k: v.clone().contiguous() for k, v in trained.module.state_dict().items()}
    path.write_bytes(safetensors.torch.save(tensors, metadata=metadata(trained)))


def _write_pt2(trained: Trained, path: Path) -> None:
    arguments, shapes = _signature(trained)
    program = _traced(
        trained,
        lambda: torch.export.export(trained.module, arguments, dynamic_shapes=shapes),
    )
    # Where torch writes the file itself, a full disk ends the process.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={METADATA_FILE: json.dumps(metadata(trained))})
    path.write_bytes(content.getbuffer())


def _write_onnx(trained: Trained, path: Path) -> None:
    arguments, shapes = _signature(trained)
    program = _traced(
        trained,
        lambda: torch.onnx.export(
            trained.module,
            arguments,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=["inputs"],
            output_names=["outputs"],
            verbose=False,
        ),
    )
    program.model.metadata_props.update(metadata(trained))
    program.save(path, external_data=False)


def _traced(trained: Trained, trace: Callable[[], Any]) -> Any:
    # torch warns of its own future, and of torchvision that it misses: nothing for users to change.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            return trace()
    except Exception as error:
        # Whatever the model's code does that torch cannot follow, it says in its own ways.
        reason = " ".join(str(error).split("\n", 1)[0].split())
        raise UserError(
            f"{trained.saved.settings.run.model} cannot be traced by torch "
            f"({type(error).__name__}: {reason}): export to .safetensors, the weights alone"
        ) from error
    finally:
        logging.disable(before)


_WRITERS: dict[str, Callable[[Trained, Path], None]] = dict(
    zip(EXPORT_FORMATS, (_write_safetensors, _write_pt2, _write_onnx), strict=True)
)
