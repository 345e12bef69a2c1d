"""`arignote infer RUN IMAGE...`: which classes a picture belongs to, and how surely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from arignote.data.card import DataCard
from arignote.data.decode import decode_any
from arignote.data.images import normalise
from arignote.errors import UserError
from arignote.inference.load import Trained, load_trained
from arignote.inference.request import Request


def classify(request: Request) -> dict[str, Any]:
    """The `top` most probable classes of each picture in `images`.

    A picture becomes a sample as validation images do: resized to cover the model's input, its
    middle kept, grey or RGB as the model has it, and mean and deviation as in training. The
    probabilities are the softmax of the module's outputs.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not fit the model.
        DataError: a file cannot be read, or is no picture.
        UserError: the model does not classify pictures.
    """
    trained = load_trained(Path(request.run), request.checkpoint)
    shape = picture_shape(trained.card, request.run)
    found = []
    for path in request.options["images"]:
        picture = decode_any(path, shape)
        inputs = normalise(picture, trained.card.mean, trained.card.deviation)
        scores = _scores(trained, inputs)
        best = scores.softmax(0).topk(min(request.options["top"], len(scores)))
        found.append(
            {
                "file": path,
                "best": [
                    {"class": trained.card.classes[place], "probability": probability}
                    for probability, place in zip(
                        best.values.tolist(), best.indices.tolist(), strict=True
                    )
                ],
            }
        )
    return {**trained.saved.facts(), "images": found}


def picture_shape(card: DataCard, run: str) -> tuple[int, int, int]:
    """(C, H, W) of the pictures that the model takes.

    Raises:
        UserError: it takes no pictures, or nobody knows how they are normalised.
    """
    if card.vocabulary and not card.is_language:
        raise UserError(
            f"{run} was trained to classify texts, which infer does not do: see how well it does "
            "with arignote evaluate"
        )
    if card.vocabulary:
        raise UserError(f"{run} was trained on text: a language model takes --prompt TEXT")
    if len(card.sample_shape) != 3 or card.sample_shape[0] not in (1, 3):
        raise UserError(
            f"{run} was trained on samples of shape {card.sample_shape}: a picture is "
            "(1, H, W) or (3, H, W)"
        )
    if not card.mean:
        raise UserError(
            f"{run} was trained on a data set that does not say how pixels become inputs: let it "
            "derive from ImageDataset, or have `mean` and `deviation`, and train again"
        )
    channels, height, width = card.sample_shape
    return channels, height, width


def _scores(trained: Trained, inputs: torch.Tensor) -> torch.Tensor:
    """The outputs for a batch of one: a score for each class, float64 on the CPU."""
    outputs = trained.outputs(inputs)
    expected = (1, len(trained.card.classes))
    if not isinstance(outputs, torch.Tensor) or tuple(outputs.shape) != expected:
        got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise UserError(
            f"{trained.saved.settings.run.model} gives {got} for one picture: expected a score "
            f"for each class, {expected}"
        )
    return outputs[0].double().cpu()
