"""Batches as NumPy arrays: the same bits as by torch, and no torch to load them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow
import pytest
import torch
from pyarrow import parquet

from arignote.data.images import normalise
from arignote.data.open import open_data

PROGRAM = """
import sys
import numpy as np
from arignote.data.open import open_data
data = open_data(sys.argv[1], "none")
out = data.new_arrays("validation", 2)
data.load("validation", np.arange(2), out)
print(out.inputs.shape, out.targets.shape, "torch" in sys.modules)
"""


def test_normalised_to_the_bits_that_torch_would_give():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3), np.uint8)
    mean, deviation = (125.3, 0.1, 200.7), (63.1, 1.0, 7.3)
    out = np.empty((3, 3, 5, 7), np.float32)
    normalise(images, mean, deviation, out)
    shift, scale = (
        torch.tensor(it, dtype=torch.float32)[:, None, None] for it in (mean, deviation)
    )
    expected = torch.from_numpy(images).permute(0, 3, 1, 2).float().sub_(shift).div_(scale)
    assert torch.from_numpy(out).equal(expected)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_written_where_one_asks(split):
    data = open_data("synthetic:3x8x8,10,train=20,validation=9", "crop+mirror")
    room = data.new_arrays(split, 9)
    indices = np.array([3, 0, 8])
    part = type(room)(room.inputs[2:5], room.targets[2:5])
    data.load(split, indices, part, seed=3, epoch=1)
    expected = (
        data.train_batch(indices, seed=3, epoch=1)
        if split == "train"
        else data.validation_batch(indices)
    )
    assert np.array_equal(room.inputs[2:5], expected.inputs)
    assert np.array_equal(room.targets[2:5], expected.targets)


def test_no_torch_to_load_them(tmp_path):
    (tmp_path / "text.txt").write_text("a text " * 400)
    texts = pyarrow.table({"text": ["one", "two"], "label": [0, 1]})
    for split in ("train", "test"):
        parquet.write_table(texts, tmp_path / f"{split}-0.parquet")
        np.save(tmp_path / f"x_{split}.npy", np.zeros((2, 3)))
        np.save(tmp_path / f"y_{split}.npy", np.arange(2))
    for spec, shapes in (
        ("synthetic:3x8x8,10", "(2, 3, 8, 8) (2,)"),
        (f"text:{tmp_path / 'text.txt'},length=16", "(2, 16) (2, 16)"),
        (f"parquet:{tmp_path},length=4", "(2, 4) (2,)"),
        (f"npy:{tmp_path}", "(2, 3) (2,)"),
    ):
        command = [sys.executable, "-c", PROGRAM, spec]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert printed == f"{shapes} False\n"
