"""GPT: a decoder-only transformer, from a toy for characters to GPT-2's smallest.

    x_0 = dropout(E[tokens] + P[0 ... T-1])
    x_l = y + mlp(norm(y)),  y = x_(l-1) + attention(norm(x_(l-1)))      l = 1 ... layers
    scores = norm(x_layers) E^T

    E, P  the embeddings of tokens and positions, both learned; E is also the last layer
    mlp   dense to 4 width, GELU (its tanh form), dense back

Radford et al., Language Models are Unsupervised Multitask Learners, 2019 (GPT-2): layer norm before
each part, weights N(0, 0.02^2), those of layers that end in the sum divided by sqrt(2 layers).
nanoGPT (Karpathy, 2022) for the hyper-parameters. We differ: no dropout of the attention weights,
which would rule out torch's fast kernel on CPUs.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from arignote.models.language import LanguageModel

_DEVIATION = 0.02
"""Of the initial weights."""


class Attention(nn.Module):
    """Each token looks at itself and those before it: (N, T, width) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """softmax(q k^T / sqrt(width / heads)) v in each head, masked."""
        n, length, width = x.shape
        parts = self.queries_keys_values(x).view(n, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(n, length, width))
        return out


class Block(nn.Module):
    """One layer: attention, then a dense network for each token; both are added to the input."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, T, width) to the same."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        out: torch.Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return out


class Decoder(nn.Module):
    """Tokens (N, T) int64, T <= context, to scores of the next ones (N, T, vocabulary)."""

    def __init__(
        self, vocabulary: int, context: int, *, layers: int, width: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self._initialise(layers)

    def _initialise(self, layers: int) -> None:
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                ends_in_the_sum = name.endswith(("attention.out", "mlp.2"))
                scale = math.sqrt(2 * layers) if ends_in_the_sum else 1.0
                nn.init.normal_(module.weight, std=_DEVIATION / scale)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """See the formula above."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.tokens(tokens) + self.positions(places))
        for block in self.blocks:
            x = block(x)
        return nn.functional.linear(self.norm(x), self.tokens.weight)


class _GPT(LanguageModel):
    layers: ClassVar[int]
    width: ClassVar[int]
    heads: ClassVar[int]
    dropout: ClassVar[float]

    def build(self) -> nn.Module:
        """The decoder; its context is the length of the data's samples."""
        return Decoder(
            len(self.dataset.vocabulary),
            self.dataset.sample_shape[0],
            layers=self.layers,
            width=self.width,
            heads=self.heads,
            dropout=self.dropout,
        )


class GPTNano(_GPT):
    """5 layers, width 128, 4 heads; 1,032,704 parameters for 65 characters and length=256.

    For characters: `--data text:FILE,length=256`. A step of two workers is 2,048 characters. AdamW,
    its betas and decay, cosine and clipping are nanoGPT's (`config/train_shakespeare_char.py`,
    where the rate is 1e-3); size, batch, epochs, rate and dropout are ours.
    """

    defaults = {
        "train.epochs": 18,
        "train.batch_size": 4,
        "train.clip_norm": 1.0,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 2e-3,
        "optimizer.betas": [0.9, 0.99],
        "optimizer.weight_decay": 0.1,
        "optimizer.decay_all": False,
        "schedule.name": "cosine",
        "schedule.scaling": "sqrt",
        "schedule.reference_batch_size": 8,
        "schedule.warmup": "from-zero",
        "schedule.warmup_epochs": 0.25,
    }
    layers, width, heads, dropout = 5, 128, 4, 0.05


class GPTSmall(_GPT):
    """GPT-2's smallest: 12 layers, width 768, 12 heads; 86.0 M parameters for bytes, length=1024.

    124,439,808 for GPT-2's own vocabulary of 50,257. AdamW, its rate, betas and decay, cosine and
    clipping are nanoGPT's (`train.py`); dropout is GPT-2's; batch a worker and epochs are ours.
    """

    defaults = {
        "train.epochs": 10,
        "train.batch_size": 12,
        "train.clip_norm": 1.0,
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 6e-4,
        "optimizer.betas": [0.9, 0.95],
        "optimizer.weight_decay": 0.1,
        "optimizer.decay_all": False,
        "schedule.name": "cosine",
        "schedule.warmup": "from-zero",
        "schedule.warmup_epochs": 0.1,
    }
    layers, width, heads, dropout = 12, 768, 12, 0.1
