"""`synthetic`: shapes and sizes as asked, samples that never change."""

from __future__ import annotations

import numpy as np
import pytest

from arignote.data.open import open_data
from arignote.errors import UserError


def test_default_sizes():
    data = open_data("synthetic:3x32x32,10", "none")
    assert (data.train_size, data.validation_size) == (10_000, 1_000)
    assert data.sample_shape == (3, 32, 32)
    assert len(data.classes) == 10


def test_sizes_and_shape_as_asked():
    data = open_data("synthetic:1x4x6,3,train=7,validation=9", "none")
    assert (data.train_size, data.validation_size) == (7, 9)
    batch = data.validation_batch(np.arange(9))
    assert batch.inputs.shape == (9, 1, 4, 6)
    assert batch.targets.tolist() == [0, 1, 2] * 3


def test_a_sample_depends_on_its_index_alone():
    small = open_data("synthetic:3x4x4,5,train=2000", "none")
    again = open_data("synthetic:3x4x4,5,train=2000", "none")
    indices = np.array([1999, 0, 7])
    first, second = (d.train_batch(indices, seed=0, epoch=0) for d in (small, again))
    assert first.inputs.equal(second.inputs)
    assert first.targets.equal(second.targets)


def test_large_images_share_a_small_pool():
    data = open_data("synthetic:3x1024x1024,10,train=20,validation=1", "none")
    batch = data.train_batch(np.array([0, 10, 1]), seed=0, epoch=0)
    assert batch.inputs[0].equal(batch.inputs[1])
    assert not batch.inputs[0].equal(batch.inputs[2])
    assert batch.targets[0] == batch.targets[1]


@pytest.mark.parametrize("shape", ["32x32", "3x32", "3x0x32", "3x32x-1", "3x32x32x1", "axbxc"])
def test_bad_shapes(shape):
    with pytest.raises(UserError, match=f"got the shape '{shape}', expected CHANNELSxHEIGHTxWIDTH"):
        open_data(f"synthetic:{shape},10", "none")


@pytest.mark.parametrize("classes", ["0", "-1", "ten", "1.5"])
def test_bad_classes(classes):
    with pytest.raises(UserError, match=f"got '{classes}' classes, expected a whole number"):
        open_data(f"synthetic:3x4x4,{classes}", "none")


def test_wrong_number_of_arguments():
    with pytest.raises(UserError, match="takes 2 arguments, got '3x4x4': write synthetic:3x32x32"):
        open_data("synthetic:3x4x4", "none")
    with pytest.raises(UserError, match="takes 2 arguments, got none: write synthetic:3x32x32"):
        open_data("synthetic", "none")


def test_bad_options():
    with pytest.raises(UserError, match="unknown key 'trian': did you mean 'train'"):
        open_data("synthetic:3x4x4,10,trian=5", "none")
    with pytest.raises(UserError, match="train: got '0', input should be greater than or equal"):
        open_data("synthetic:3x4x4,10,train=0", "none")


@pytest.mark.parametrize("text", ["synthetic:9999x9999x9,10", "synthetic:1x8x8,300000000"])
def test_too_large(text: str) -> None:
    with pytest.raises(UserError, match=r"expected at most 33554432 values an image and 1000000 c"):
        open_data(text, augment="none")
