"""One seed, many independent streams, and the state of all generators as plain values."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from arignote import accelerator
from arignote.config.devices import ACCELERATOR


def seed_build(seed: int) -> None:
    """Before the model is built: the same on every worker."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def seed_worker(seed: int, rank: int) -> None:
    """After that: a stream of its own for each worker (dropout and the like)."""
    words = np.random.SeedSequence((seed, rank)).generate_state(2)
    own = int(words[0]) << 31 ^ int(words[1])
    torch.manual_seed(own)
    np.random.seed(int(words[0]))
    random.seed(own)


def random_state() -> dict[str, Any]:
    """The state of torch's, NumPy's and Python's global generators, for a checkpoint."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            position,
            has_gauss,
            cached,
        ],
        "python": [version, list(internal), gauss],
    }
    if accelerator.available():
        state[ACCELERATOR] = accelerator.random_state()
    return state


def load_random_state(state: dict[str, Any]) -> None:
    """Take back what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if ACCELERATOR in state and accelerator.available():
        accelerator.set_random_state(state[ACCELERATOR])
