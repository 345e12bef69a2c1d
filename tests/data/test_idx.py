"""`idx`: MNIST's format, plain and gzipped, and every way in which files are damaged."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from arignote.data.open import open_data
from arignote.errors import DataError, UserError

TRAIN_LABELS = [0, 1, 2, 1, 0, 2]
TEST_LABELS = [2, 0]


def encode(array):
    lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
    return bytes((0, 0, 8, array.ndim)) + lengths + array.tobytes()


def write(folder, name, content, packed):
    path = folder / f"{name}{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@pytest.fixture(params=[False, True], ids=["plain", "gz"])
def packed(request):
    return request.param


@pytest.fixture
def folder(tmp_path, packed):
    random = np.random.default_rng(0)
    for prefix, labels in (("train", TRAIN_LABELS), ("t10k", TEST_LABELS)):
        images = random.integers(0, 256, (len(labels), 4, 5), dtype=np.uint8)
        write(tmp_path, f"{prefix}-images-idx3-ubyte", encode(images), packed)
        write(tmp_path, f"{prefix}-labels-idx1-ubyte", encode(np.array(labels, np.uint8)), packed)
    return tmp_path


def test_samples_and_labels(folder):
    data = open_data(f"idx:{folder}", "none")
    assert (data.train_size, data.validation_size) == (6, 2)
    assert data.sample_shape == (1, 4, 5)
    assert data.classes == ("0", "1", "2")
    assert data.train_batch(np.arange(6), seed=0, epoch=0).targets.tolist() == TRAIN_LABELS
    validation = data.validation_batch(np.arange(2))
    assert validation.targets.tolist() == TEST_LABELS
    # The pixels came through: undo the normalisation of the first file's bytes.
    train = np.random.default_rng(0).integers(0, 256, (6, 4, 5), dtype=np.uint8)
    expected = (train - train.mean()) / train.std()
    inputs = data.train_batch(np.arange(6), seed=0, epoch=0).inputs[:, 0].numpy()
    np.testing.assert_allclose(inputs, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_missing_file(folder, packed, name):
    (folder / f"{name}{'.gz' if packed else ''}").unlink()
    with pytest.raises(DataError, match=f"has no {name} and no {name}.gz: idx:DIR needs one"):
        open_data(f"idx:{folder}", "none")


def test_wrong_magic(folder, packed):
    labels = encode(np.zeros(6, np.uint8))
    write(folder, "train-images-idx3-ubyte", labels, packed)
    with pytest.raises(DataError, match=r"begins with 00000801, expected 00000803, .*3 axes"):
        open_data(f"idx:{folder}", "none")
    write(folder, "train-images-idx3-ubyte", b"", packed)
    with pytest.raises(DataError, match="begins with nothing, expected 00000803"):
        open_data(f"idx:{folder}", "none")


@pytest.mark.parametrize("kept", [-1, 10])
def test_truncated(folder, packed, kept):
    content = encode(np.zeros((6, 4, 5), np.uint8))[:kept]
    write(folder, "train-images-idx3-ubyte", content, packed)
    with pytest.raises(DataError, match=rf"should hold .* bytes .*, got {len(content)}: get it"):
        open_data(f"idx:{folder}", "none")


def test_truncated_gzip(folder):
    path = write(folder, "train-labels-idx1-ubyte", encode(np.array(TRAIN_LABELS, np.uint8)), True)
    (folder / "train-labels-idx1-ubyte").unlink(missing_ok=True)
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.gz cannot be read \(.*\): get"):
        open_data(f"idx:{folder}", "none")


def test_no_samples(folder, packed):
    write(folder, "train-images-idx3-ubyte", encode(np.zeros((0, 4, 5), np.uint8)), packed)
    with pytest.raises(DataError, match="is empty by its header: at least one sample"):
        open_data(f"idx:{folder}", "none")


def test_numbers_that_differ(folder, packed):
    write(folder, "t10k-labels-idx1-ubyte", encode(np.zeros(3, np.uint8)), packed)
    with pytest.raises(DataError, match=r"holds 2 images, t10k-labels-idx1-ubyte.* 3 labels"):
        open_data(f"idx:{folder}", "none")


def test_sizes_that_differ(folder, packed):
    write(folder, "t10k-images-idx3-ubyte", encode(np.zeros((2, 4, 4), np.uint8)), packed)
    with pytest.raises(DataError, match="train images are 4x5, t10k images 4x4"):
        open_data(f"idx:{folder}", "none")


def test_a_validation_label_that_training_does_not_know(folder, packed):
    write(folder, "t10k-labels-idx1-ubyte", encode(np.array([1, 3], np.uint8)), packed)
    with pytest.raises(DataError, match=r"label 3 at position 1, expected 0\.\.2"):
        open_data(f"idx:{folder}", "none")


def test_options_are_refused(folder):
    with pytest.raises(UserError, match="idx takes no options, got 'size'"):
        open_data(f"idx:{folder},size=3", "none")
