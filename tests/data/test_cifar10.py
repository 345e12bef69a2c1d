"""`cifar10`: the binary files, arrays, and every way in which they do not fit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from arignote.data.open import open_data
from arignote.errors import DataError, UserError

TRAIN_FILES = [f"data_batch_{number}.bin" for number in range(1, 6)]
NAMES = "airplane automobile bird cat deer dog frog horse ship truck"


def write_binary(folder, records=4):
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for name in (*TRAIN_FILES, "test_batch.bin"):
        content = random.integers(0, 256, (records, 3073), dtype=np.uint8)
        content[:, 0] %= 10
        (folder / name).write_bytes(content.tobytes())


def write_arrays(folder, layout=(32, 32, 3), label_shape=(-1,)):
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 3)):
        images = random.integers(0, 256, (count, *layout), dtype=np.uint8)
        np.save(folder / f"x_{split}.npy", images)
        np.save(folder / f"y_{split}.npy", (np.arange(count) * 3 % 10).reshape(label_shape))


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_binary_files(tmp_path, inside):
    write_binary(tmp_path / inside)
    data = open_data(f"cifar10:{tmp_path}", "none")
    assert (data.train_size, data.validation_size) == (20, 4)
    assert data.sample_shape == (3, 32, 32)
    assert data.classes == tuple(NAMES.split())
    content = b"".join((tmp_path / inside / name).read_bytes() for name in TRAIN_FILES)
    records = np.frombuffer(content, np.uint8).reshape(20, 3073)
    batch = data.train_batch(np.arange(20), seed=0, epoch=0)
    assert batch.targets.tolist() == records[:, 0].tolist()
    planes = records[:, 1:].reshape(20, 3, 32, 32)
    axes = (0, 2, 3)
    expected = (planes - planes.mean(axes, keepdims=True)) / planes.std(axes, keepdims=True)
    np.testing.assert_allclose(batch.inputs, expected, atol=1e-5)


def test_class_names_of_its_own(tmp_path):
    write_binary(tmp_path)
    (tmp_path / "batches.meta.txt").write_text(f"{NAMES.upper().replace(' ', chr(10))}\n\n")
    assert open_data(f"cifar10:{tmp_path}", "none").classes == tuple(NAMES.upper().split())
    (tmp_path / "batches.meta.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"batches.meta.txt names 2 classes, expected 10"):
        open_data(f"cifar10:{tmp_path}", "none")


@pytest.mark.parametrize("label_shape", [(-1,), (-1, 1)])
def test_arrays_of_both_layouts_are_the_same(tmp_path, label_shape):
    write_arrays(tmp_path, label_shape=label_shape)
    last = open_data(f"cifar10:{tmp_path}", "none").train_batch(np.arange(6), seed=0, epoch=0)
    for split in ("train", "test"):
        images = np.load(tmp_path / f"x_{split}.npy")
        np.save(tmp_path / f"x_{split}.npy", images.transpose(0, 3, 1, 2).copy())
    first = open_data(f"cifar10:{tmp_path}", "none").train_batch(np.arange(6), seed=0, epoch=0)
    assert first.inputs.equal(last.inputs)
    assert last.targets.tolist() == [0, 3, 6, 9, 2, 5]
    assert first.inputs.is_contiguous()


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"holds no CIFAR-10: expected data_batch_1.bin .*y_test"):
        open_data(f"cifar10:{tmp_path}", "none")


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_pickles_are_never_loaded(tmp_path, inside):
    (tmp_path / inside).mkdir(exist_ok=True)
    (tmp_path / inside / "data_batch_1").write_bytes(b"not even a pickle")
    with pytest.raises(DataError, match="never loaded: get the binary version, cifar-10-binary"):
        open_data(f"cifar10:{tmp_path}", "none")


@pytest.mark.parametrize("name", ["data_batch_3.bin", "test_batch.bin"])
def test_missing_binary_file(tmp_path, name):
    write_binary(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"has no {name}: expected "):
        open_data(f"cifar10:{tmp_path}", "none")


@pytest.mark.parametrize("size", [0, 3072, 4000])
def test_size_that_is_no_multiple_of_a_record(tmp_path, size):
    write_binary(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=f"data_batch_2.bin holds {size:,} bytes, expected a mult"):
        open_data(f"cifar10:{tmp_path}", "none")


def test_bad_label_in_a_binary_file(tmp_path):
    write_binary(tmp_path)
    content = bytearray((tmp_path / "test_batch.bin").read_bytes())
    content[2 * 3073] = 10
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"test_batch.bin: label 10 at position 2, expected 0\.\.9"):
        open_data(f"cifar10:{tmp_path}", "none")


def test_missing_array(tmp_path):
    write_arrays(tmp_path)
    (tmp_path / "y_test.npy").unlink()
    with pytest.raises(DataError, match=r"has no y_test.npy: expected x_train.npy, y_train.npy"):
        open_data(f"cifar10:{tmp_path}", "none")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x_train", np.zeros((6, 32, 32, 3)), r"x_train.npy holds float64 .*expected uint8"),
        ("x_train", np.zeros((6, 32, 32), np.uint8), r"shape \(6, 32, 32\), expected uint8"),
        ("x_test", np.zeros((0, 32, 32, 3), np.uint8), "x_test.npy"),
        ("x_test", np.uint8(3), r"x_test.npy .*shape \(\)"),
        ("y_train", np.zeros(6), "y_train.npy holds float64 .*expected whole numbers"),
        ("y_train", np.zeros((6, 10), int), r"holds int64 of shape \(6, 10\), expected whole"),
        ("y_train", np.zeros(5, int), "x_train.npy holds 6 samples, y_train.npy 5 labels"),
        ("y_test", np.array([0, -1, 3]), r"y_test.npy: label -1 at position 1, expected 0\.\.9"),
        ("y_test", np.array([0, "a"], object), "y_test.npy is no plain .npy array"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, name, array, message):
    write_arrays(tmp_path)
    np.save(tmp_path / f"{name}.npy", array)
    with pytest.raises(DataError, match=message):
        open_data(f"cifar10:{tmp_path}", "none")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"PK\x03\x04", pickle.dumps([1, 2])])
def test_files_that_are_no_arrays(tmp_path, content):
    write_arrays(tmp_path)
    (tmp_path / "x_train.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"x_train.npy is no plain .npy array \(.*\): save it"):
        open_data(f"cifar10:{tmp_path}", "none")


def test_archive_of_arrays(tmp_path):
    write_arrays(tmp_path)
    np.savez(tmp_path / "archive.npz", a=np.zeros(3))
    (tmp_path / "archive.npz").rename(tmp_path / "x_train.npy")
    with pytest.raises(DataError, match=r"x_train.npy is no plain .npy array"):
        open_data(f"cifar10:{tmp_path}", "none")


def test_options_are_refused(tmp_path):
    with pytest.raises(UserError, match="cifar10 takes no options, got 'train'"):
        open_data(f"cifar10:{tmp_path},train=3", "none")
