"""Vectors as mpi4py takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def as_array(vector: torch.Tensor) -> Any:
    """Its elements: NumPy memory, or a device's as it is."""
    return vector.numpy() if vector.device.type == "cpu" else vector


def as_bytes(wire: torch.Tensor) -> Any:
    """Its bytes, on the CPU."""
    return wire.view(torch.uint8).numpy() if wire.numel() else np.empty(0, dtype=np.uint8)
