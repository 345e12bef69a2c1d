"""`npy`: images, numbers, class names, and every way in which the arrays do not fit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from arignote.data.open import open_data
from arignote.errors import DataError, UserError


def write(folder, array, split="train", labels=None):
    np.save(folder / f"x_{split}.npy", array)
    np.save(folder / f"y_{split}.npy", np.arange(len(array)) % 3 if labels is None else labels)


def images(count, *shape):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3)])
def test_images(tmp_path, shape):
    write(tmp_path, images(6, *shape))
    write(tmp_path, images(3, *shape), "test")
    data = open_data(f"npy:{tmp_path}", "none")
    assert (data.train_size, data.validation_size) == (6, 3)
    assert data.classes == ("0", "1", "2")
    channels = shape[2] if len(shape) == 3 else 1
    assert data.sample_shape == (channels, 4, 6)
    batch = data.train_batch(np.array([4, 1]), seed=0, epoch=0)
    assert batch.targets.tolist() == [1, 1]
    planes = images(6, *shape).reshape(6, 4, 6, channels).transpose(0, 3, 1, 2)
    axes = (0, 2, 3)
    expected = (planes - planes.mean(axes, keepdims=True)) / planes.std(axes, keepdims=True)
    np.testing.assert_allclose(batch.inputs, expected[[4, 1]], atol=1e-5)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f8"])
def test_numbers_are_taken_as_they_are(tmp_path, kind):
    numbers = np.linspace(-3, 1e4, 24).astype(kind).reshape(6, 2, 2)
    write(tmp_path, numbers)
    write(tmp_path, numbers[:3], "test")
    data = open_data(f"npy:{tmp_path}", "none")
    assert (data.sample_shape, data.sample_name, data.mean) == ((2, 2), "samples", ())
    batch = data.train_batch(np.array([5, 0]), seed=0, epoch=0)
    assert np.array_equal(batch.inputs, numbers[[5, 0]].astype(np.float32))
    assert batch.targets.tolist() == [2, 0]


def test_the_arrays_stay_on_the_disk(tmp_path):
    write(tmp_path, images(6, 4, 4))
    write(tmp_path, images(3, 4, 4), "test")
    data = open_data(f"npy:{tmp_path}", "none")
    assert all(isinstance(array, np.memmap) for array in data._splits.values())


def test_val_comes_before_test(tmp_path):
    write(tmp_path, images(6, 4, 4))
    write(tmp_path, images(4, 4, 4), "test", labels=np.full(4, -1))
    write(tmp_path, images(3, 4, 4), "val")
    assert open_data(f"npy:{tmp_path}", "none").validation_size == 3


def test_class_names(tmp_path):
    write(tmp_path, images(6, 4, 4))
    write(tmp_path, images(3, 4, 4), "test")
    names = tmp_path / "classes.txt"
    names.write_text("red fox\nwolf\nÄsche\nlynx\n")
    assert open_data(f"npy:{tmp_path}", "none").classes == ("red fox", "wolf", "Äsche", "lynx")
    names.write_text("fox\nwolf\n")
    with pytest.raises(
        DataError, match=r"y_train.npy: label 2 at position 2, expected 0\.\.1, the"
    ):
        open_data(f"npy:{tmp_path}", "none")
    for text in ("", "\n", "fox\nwolf\nfox\n"):
        names.write_text(text)
        with pytest.raises(DataError, match=r"classes.txt holds no names or one twice: write one"):
            open_data(f"npy:{tmp_path}", "none")
    names.write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"classes.txt cannot be read \(.*\): save it as UTF-8"):
        open_data(f"npy:{tmp_path}", "none")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x_train", np.zeros((6, 4, 4), int), r"x_train.npy holds int64 .*expected images \(uint8"),
        ("x_train", images(6, 4), r"holds uint8 of shape \(6, 4\), expected images .*: convert it"),
        ("x_train", images(6, 3, 4, 4), r"uint8 of shape \(6, 3, 4, 4\), expected images"),
        ("x_train", np.zeros(6), r"holds float64 of shape \(6,\), expected images"),
        ("x_train", np.zeros((6, 4), object), "x_train.npy is no plain .npy array"),
        ("x_train", np.zeros((0, 4, 4)), r"x_train.npy has the shape \(0, 4, 4\): at least one"),
        ("x_test", images(3, 4, 5), r"\(N, 4, 4\), x_test.npy uint8 of shape \(N, 4, 5\): both"),
        ("x_test", np.zeros((3, 4, 4)), r"holds uint8 .*x_test.npy float64 .*: both must be alike"),
        ("x_test", images(2, 4, 4), r"x_test.npy holds 2 samples, y_test.npy 3 labels"),
        ("y_train", np.zeros(6), "y_train.npy holds float64 .*expected whole numbers"),
        ("y_train", np.arange(6) - 1, r"y_train.npy: label -1 at position 0, expected 0\.\.999999"),
        (
            "y_train",
            np.arange(6) + 10**6,
            r"label 1000000 at position 0, .*: number the classes fr",
        ),
        (
            "y_test",
            np.arange(3) + 1,
            r"y_test.npy: label 3 at position 2, expected 0\.\.2, the labe",
        ),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, name, array, message):
    write(tmp_path, images(6, 4, 4))
    write(tmp_path, images(3, 4, 4), "test")
    np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(DataError, match=message):
        open_data(f"npy:{tmp_path}", "none")


def test_files_that_are_missing_or_no_arrays(tmp_path):
    with pytest.raises(
        DataError, match=r"has no x_train.npy: expected x_train.npy, y_train.npy, x"
    ):
        open_data(f"npy:{tmp_path}", "none")
    write(tmp_path, images(6, 4, 4))
    with pytest.raises(DataError, match=r"has no x_test.npy: expected .*\(or x_val.npy\)"):
        open_data(f"npy:{tmp_path}", "none")
    write(tmp_path, images(3, 4, 4), "val")
    (tmp_path / "y_val.npy").write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(DataError, match=r"y_val.npy is no plain .npy array \(.*\): save it"):
        open_data(f"npy:{tmp_path}", "none")


def test_the_form_of_the_spec(tmp_path):
    with pytest.raises(UserError, match="npy takes no options, got 'size'"):
        open_data(f"npy:{tmp_path},size=3", "none")
    with pytest.raises(UserError, match="npy takes 1 argument, got none: write npy:DIR"):
        open_data("npy", "none")
