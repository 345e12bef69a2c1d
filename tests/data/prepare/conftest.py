"""A small source, and shards of four images each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arignote.data.prepare import decoding, run

sys.path.insert(0, str(Path(__file__).parent))
import prepare_setup as setup


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(run, "_SHARD_BYTES", setup.FOUR_IMAGES + 1)
    monkeypatch.setattr(decoding, "PART", 3)


@pytest.fixture
def source(tmp_path):
    """Eleven training images of three classes, five of validation, each of another colour."""
    for split, counts in (("train", (5, 4, 2)), ("val", (2, 0, 3))):
        for label, count in enumerate(counts):
            for place in range(count):
                path = tmp_path / "source" / split / f"class{label}" / f"{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng((len(split), label, place))
                pixels = noise.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    return tmp_path / "source"
