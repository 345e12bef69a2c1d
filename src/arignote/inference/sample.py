"""`arignote infer RUN --prompt TEXT`: what a language model says next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from arignote.errors import UserError
from arignote.inference.load import load_trained
from arignote.inference.request import Request

BYTES = tuple(str(value) for value in range(256))
"""The vocabulary of a text of bytes; any other is of characters."""


def sample(request: Request) -> dict[str, Any]:
    """`length` tokens drawn one by one after `prompt`, at `temperature`; the same for the same
    `seed`.

    Raises:
        CheckpointError: there is no such checkpoint, or it does not fit the model.
        UserError: the model does not generate text, or the prompt is not of its characters.
    """
    trained = load_trained(Path(request.run), request.checkpoint)
    generate = getattr(trained.model, "generate", None)
    vocabulary = trained.card.vocabulary
    if generate is None or not vocabulary:
        raise UserError(
            f"{request.run} is a run of {trained.saved.settings.run.model}, which does not "
            "generate text: give pictures instead of --prompt, or a run of a language model"
        )
    options = request.options
    prompt = torch.tensor([encode(options["prompt"], vocabulary)], device=trained.device)
    generator = torch.Generator(trained.device).manual_seed(options["seed"])
    with trained.autocast(), torch.no_grad():
        tokens = generate(prompt, options["length"], options["temperature"], generator)
    drawn = tokens.reshape(-1)[-options["length"] :].tolist()
    text = decode(drawn, vocabulary)
    return {**trained.saved.facts(), "prompt": options["prompt"], "text": text}


def encode(text: str, vocabulary: Sequence[str]) -> list[int]:
    """The tokens of `text`.

    Raises:
        UserError: it is empty, or has a character that the vocabulary does not have.
    """
    if not text:
        raise UserError("--prompt is empty: give at least one character to go on from")
    if tuple(vocabulary) == BYTES:
        return list(text.encode(errors="surrogateescape"))
    places = {character: place for place, character in enumerate(vocabulary)}
    for character in text:
        if character not in places:
            raise UserError(
                f"--prompt: {character!r} is no character of the text that was trained on: "
                "leave it out"
            )
    return [places[character] for character in text]


def decode(tokens: Sequence[int], vocabulary: Sequence[str]) -> str:
    """The text of `tokens`; bytes that are no UTF-8 become U+FFFD."""
    if tuple(vocabulary) == BYTES:
        return bytes(tokens).decode(errors="replace")
    return "".join(vocabulary[token] for token in tokens)
