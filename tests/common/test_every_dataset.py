"""What every member of the registry of data sets must do, on tiny generated files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from arignote.data.base import Batch
from arignote.data.open import open_data
from arignote.registry import DATA


def random_images(count, *shape):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def make_digits(folder):
    return "digits"


def make_synthetic(folder):
    return "synthetic:3x16x16,10,train=40,validation=12"


def make_imagefolder(folder):
    for split, count in (("train", 20), ("test", 5)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for place, pixels in enumerate(random_images(count, 16, 24, 3)):
                Image.fromarray(pixels).save(folder / split / name / f"{place:03}.png")
    return f"imagefolder:{folder}"


def make_cifar10(folder):
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = random_images(8, 3073)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    return f"cifar10:{folder}"


def make_idx(folder):
    for prefix, count in (("train", 40), ("t10k", 10)):
        for kind, array in (
            ("images-idx3", random_images(count, 28, 28)),
            ("labels-idx1", (np.arange(count) % 10).astype(np.uint8)),
        ):
            lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
            content = bytes((0, 0, 8, array.ndim)) + lengths + array.tobytes()
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(content)
    return f"idx:{folder}"


MAKERS = {
    "digits": make_digits,
    "synthetic": make_synthetic,
    "imagefolder": make_imagefolder,
    "cifar10": make_cifar10,
    "idx": make_idx,
}


@pytest.fixture(params=[entry.name for entry in DATA])
def spec(request, tmp_path):
    return MAKERS[request.param](tmp_path)


@pytest.fixture(params=["none", "crop-mirror"])
def data(request, spec):
    return open_data(spec, request.param)


def check_batch(data, batch, count):
    assert isinstance(batch, Batch)
    assert batch.inputs.shape == (count, *data.sample_shape)
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs.is_contiguous()
    assert batch.targets.shape == (count,)
    assert batch.targets.dtype == torch.int64
    if count:
        assert batch.targets.min() >= 0
        assert batch.targets.max() < len(data.classes)


def test_shapes_and_types(data):
    assert len(data.sample_shape) == 3
    assert data.skipped == ()
    for size in (data.train_size, min(data.train_size, 3), 0):
        check_batch(data, data.train_batch(np.arange(size), seed=0, epoch=0), size)
    for size in (data.validation_size, 1, 0):
        check_batch(data, data.validation_batch(np.arange(size)), size)


def test_a_batch_holds_the_samples_in_the_order_asked_for(data):
    indices = np.array([5, 0, data.train_size - 1, 5])
    batch = data.train_batch(indices, seed=7, epoch=3)
    for place in range(len(indices)):
        alone = data.train_batch(indices[place : place + 1], seed=7, epoch=3)
        assert alone.inputs[0].equal(batch.inputs[place])
        assert alone.targets[0] == batch.targets[place]
    indices = np.array([1, data.validation_size - 1, 0])
    batch = data.validation_batch(indices)
    for place in range(len(indices)):
        alone = data.validation_batch(indices[place : place + 1])
        assert alone.inputs[0].equal(batch.inputs[place])
        assert alone.targets[0] == batch.targets[place]


def test_the_same_when_opened_again(spec):
    one, other = open_data(spec, "crop-mirror"), open_data(spec, "crop-mirror")
    indices = np.arange(16)
    first = one.train_batch(indices, seed=1, epoch=2)
    second = other.train_batch(indices, seed=1, epoch=2)
    assert first.inputs.equal(second.inputs) and first.targets.equal(second.targets)


def test_seed_and_epoch_decide_the_augmentation(spec):
    plain, augmented = open_data(spec, "none"), open_data(spec, "crop-mirror")
    indices = np.arange(16)
    base = augmented.train_batch(indices, seed=1, epoch=2)
    assert base.inputs.equal(augmented.train_batch(indices, seed=1, epoch=2).inputs)
    assert not base.inputs.equal(augmented.train_batch(indices, seed=1, epoch=3).inputs)
    assert not base.inputs.equal(augmented.train_batch(indices, seed=2, epoch=2).inputs)
    unchanged = plain.train_batch(indices, seed=1, epoch=2)
    assert unchanged.inputs.equal(plain.train_batch(indices, seed=2, epoch=3).inputs)
    assert unchanged.targets.equal(base.targets)


def test_validation_is_not_augmented(spec):
    indices = np.arange(open_data(spec, "none").validation_size)
    plain = open_data(spec, "none").validation_batch(indices)
    assert plain.inputs.equal(open_data(spec, "crop-mirror").validation_batch(indices).inputs)


def test_training_inputs_are_normalised(spec):
    data = open_data(spec, "none")
    inputs = data.train_batch(np.arange(data.train_size), seed=0, epoch=0).inputs
    deviation, mean = torch.std_mean(inputs, dim=(0, 2, 3))
    # The numbers come from at most 1,000 images of all.
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=0.02, rtol=0)
    torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=0.02, rtol=0)


def test_a_batch_can_be_changed_without_changing_the_data(data):
    before = data.train_batch(np.arange(4), seed=0, epoch=0)
    expected = before.inputs.clone(), before.targets.clone()
    before.inputs.zero_()
    before.targets.zero_()
    after = data.train_batch(np.arange(4), seed=0, epoch=0)
    assert after.inputs.equal(expected[0]) and after.targets.equal(expected[1])
