"""`arignote infer RUN FILE...`: which classes a picture or a text belongs to, and how surely."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from arignote.data.card import DataCard
from arignote.data.decode import decode_any
from arignote.data.images import normalise
from arignote.data.textfolder import read_text
from arignote.data.words import NAMES, encode_words, word_numbers
from arignote.errors import UserError
from arignote.inference.load import Trained, load_trained
from arignote.inference.request import Request

Read: TypeAlias = Callable[[str], torch.Tensor]
"""The file at a path as a batch of one."""


def classify(request: Request) -> dict[str, Any]:
    """The `top` most probable classes of each of `files`.

    A file becomes a sample as validation samples do. A picture is resized to cover the model's
    input, its middle kept, grey or RGB as the model has it, and mean and deviation are those of
    training. A text becomes the numbers of its first words. The probabilities are the softmax
    of the module's outputs.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not fit the model.
        DataError: a file cannot be read, or is no picture or no UTF-8.
        UserError: the model classifies neither pictures nor texts.
    """
    trained = load_trained(Path(request.run), request.checkpoint)
    read = reader(trained.card, request.run)
    found = []
    for path in request.options["files"]:
        scores = _scores(trained, read(path))
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
    return {**trained.saved.facts(), "files": found}


def reader(card: DataCard, run: str) -> Read:
    """What turns a file into the model's input.

    Raises:
        UserError: its inputs are neither pictures nor texts, or nobody knows how they are made.
    """
    return _text_reader(card, run) if card.vocabulary else _picture_reader(card, run)


def _text_reader(card: DataCard, run: str) -> Read:
    if card.is_language:
        raise UserError(f"{run} was trained on text: a language model takes --prompt TEXT")
    if card.vocabulary[: len(NAMES)] != NAMES or len(card.sample_shape) != 1:
        raise UserError(
            f"{run} was trained on tokens of its own data set's making: infer reads texts as "
            "textfolder:DIR does; see how well it does with arignote evaluate"
        )
    numbers, (length,) = word_numbers(card.vocabulary), card.sample_shape

    def read(path: str) -> torch.Tensor:
        encoded = encode_words(read_text(path), numbers, length)
        return torch.from_numpy(encoded).to(card.torch_dtype).unsqueeze(0)

    return read


def _picture_reader(card: DataCard, run: str) -> Read:
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

    def read(path: str) -> torch.Tensor:
        picture = decode_any(path, (channels, height, width))
        inputs = np.empty((1, channels, height, width), np.float32)
        normalise(picture, card.mean, card.deviation, inputs)
        return torch.from_numpy(inputs)

    return read


def _scores(trained: Trained, inputs: torch.Tensor) -> torch.Tensor:
    """The outputs for a batch of one: a score for each class, float64 on the CPU."""
    outputs = trained.outputs(inputs)
    expected = (1, len(trained.card.classes))
    if not isinstance(outputs, torch.Tensor) or tuple(outputs.shape) != expected:
        got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise UserError(
            f"{trained.saved.settings.run.model} gives {got} for one file: expected a score "
            f"for each class, {expected}"
        )
    return outputs[0].double().cpu()
