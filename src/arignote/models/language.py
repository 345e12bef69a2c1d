"""What language models share: a loss for each token, and text drawn from them."""

from __future__ import annotations

import torch
from torch import nn

from arignote.data.base import Batch, Dataset
from arignote.errors import UserError
from arignote.models.base import Model


class LanguageModel(Model):
    """A model whose module gives scores for each next token: (N, T) int64 to (N, T, K).

    Its loss is in nats a token; its error is the share of tokens that it would not guess first.
    """

    best_by = "loss"

    def data(self) -> Dataset:
        """As `Model.data`.

        Raises:
            UserError: the data has no token as target of each token.
        """
        dataset = super().data()
        if not dataset.vocabulary or dataset.vocabulary != dataset.classes:
            raise UserError(
                f"{self.settings.run.model} predicts the next token of a text, and "
                f"{self.settings.run.data} is none: use --data text:FILE"
            )
        return dataset

    def loss(self, batch: Batch) -> torch.Tensor:
        """Mean over all tokens of -log of what was given to the right one, in nats."""
        scores = self.module(batch.inputs)
        return nn.functional.cross_entropy(scores.flatten(0, 1), batch.targets.flatten())

    @torch.no_grad()
    def generate(
        self,
        prompt: torch.Tensor,
        count: int,
        temperature: float,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """`count` tokens that follow `prompt` (1, T >= 1): shape (1, count), int64.

        Each is drawn from softmax(scores / temperature), where 0 takes the best one; the scores
        are given the tokens before it, at most as many as a training sample has.
        """
        self.module.eval()
        context = self.dataset.sample_shape[0]
        tokens = prompt
        for _ in range(count):
            scores = self.module(tokens[:, -context:])[:, -1]
            if temperature:
                shares = torch.softmax(scores / temperature, dim=-1)
                following = torch.multinomial(shares, 1, generator=generator)
            else:
                following = scores.argmax(dim=-1, keepdim=True)
            tokens = torch.cat([tokens, following], dim=1)
        return tokens[:, prompt.shape[1] :]
