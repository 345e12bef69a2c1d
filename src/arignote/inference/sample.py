"""`arignote infer RUN --prompt TEXT`: what a language model says next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from arignote.data.vocabulary import decode, encode
from arignote.errors import UserError
from arignote.inference.load import load_trained
from arignote.inference.request import Request


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
            "generate text: give files instead of --prompt, or a run of a language model"
        )
    options = request.options
    if not options["prompt"]:
        raise UserError("--prompt is empty: give at least one character to go on from")
    try:
        tokens = encode(options["prompt"], vocabulary)
    except UserError as error:
        raise UserError(f"--prompt: {error}") from None
    prompt = torch.tensor([tokens], device=trained.device)
    generator = torch.Generator(trained.device).manual_seed(options["seed"])
    with trained.autocast(), torch.no_grad():
        drawn = generate(prompt, options["length"], options["temperature"], generator)
    text = decode(drawn.reshape(-1)[-options["length"] :].tolist(), vocabulary)
    return {**trained.saved.facts(), "prompt": options["prompt"], "text": text}
