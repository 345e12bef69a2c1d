"""A small vision transformer: ViT (arXiv 2010.11929) of DeiT's tiny size (arXiv 2012.12877).

An image is cut into patches, each a token, with one more that gathers the class. Twelve blocks:

    x = x + attention(norm(x));   x = x + mlp(norm(x))

Names are those of DeiT's published weights.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from arignote.errors import UserError
from arignote.models.base import Model
from arignote.models.images import image_shape

_SMALL = 64
"""Images with a side below this many pixels are cut into patches of 4, others of 16."""


class ViTTiny(Model):
    """DeiT-Ti without distillation: 5,717,416 parameters for 1000 classes at 224 x 224."""

    defaults = {
        # DeiT, table 9: AdamW, rate 5e-4 x batch / 512 (written for a batch of 1: then the warm-up
        # begins at about the 1e-6 of their code), 5 epochs of it, cosine, decay 0.05, 300 epochs,
        # and the 1024 of 8 workers. Their mixing and erasing of images, smoothed labels and
        # stochastic depth are not here. Theirs keeps positions and the class token from decay,
        # and its cosine ends at 1e-5, ours at 0.
        "train.epochs": 300,
        "train.batch_size": 128,
        "train.augment": "crop+mirror",
        "optimizer.name": "adamw",
        "optimizer.learning_rate": 9.765625e-07,
        "optimizer.weight_decay": 0.05,
        "optimizer.decay_all": False,
        "schedule.name": "cosine",
        "schedule.scaling": "linear",
        "schedule.reference_batch_size": 1,
        "schedule.warmup": "linear",
    }

    width = 192
    """Numbers a token."""
    heads = 3
    depth = 12

    def build(self) -> nn.Module:
        """See `ViTModule`.

        Raises:
            UserError: the samples are no images, or of sides that patches do not divide.
        """
        channels, height, width = image_shape(self.dataset, "vit-tiny")
        patch = 4 if min(height, width) < _SMALL else 16
        if height % patch or width % patch:
            raise UserError(
                f"vit-tiny cuts images into patches of {patch} x {patch} pixels, got "
                f"{height} x {width}: use sides that are multiples of {patch}"
            )
        tokens = (height // patch) * (width // patch)
        return ViTModule(
            channels,
            len(self.dataset.classes),
            patch,
            tokens,
            width=self.width,
            heads=self.heads,
            depth=self.depth,
        )


class ViTModule(nn.Module):
    """The network: (N, channels, H, W) -> (N, classes); `tokens` patches make an image.

    Initial weights: N(0, 0.02^2) cut at 2, biases 0; of the patches' convolution torch's own; as in
    DeiT.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        patch: int,
        tokens: int,
        *,
        width: int,
        heads: int,
        depth: int,
    ) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens + 1, width))
        self.patch_embed = nn.Sequential(
            OrderedDict[str, nn.Module](proj=nn.Conv2d(channels, width, patch, stride=patch))
        )
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class scores of images."""
        patches: torch.Tensor = self.patch_embed(images)
        x = patches.flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        scores: torch.Tensor = self.head(self.norm(self.blocks(x)[:, 0]))
        return scores


class Block(nn.Module):
    """One block: (N, tokens, width) -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention, then the two dense layers, each beside a shortcut."""
        x = x + self.attn(self.norm1(x))
        summed: torch.Tensor = x + self.mlp(self.norm2(x))
        return summed


class Attention(nn.Module):
    """Every token attends to all: softmax(q k^T / sqrt(width / heads)) v, for each head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, tokens, width) -> the same."""
        split = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = split.unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        projected: torch.Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected


class MLP(nn.Module):
    """Two dense layers with GELU between, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, tokens, width) -> the same."""
        outputs: torch.Tensor = self.fc2(self.act(self.fc1(x)))
        return outputs
