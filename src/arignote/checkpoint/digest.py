"""SHA-256 of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch


def weights_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """The digest of named tensors in a canonical order: by name, each as name, dtype, shape
    and its bytes in row-major order. Equal digests mean equal bits."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
