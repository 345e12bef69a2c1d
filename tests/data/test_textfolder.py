"""textfolder: words and their numbers, labels, and bad folders and files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from arignote.data.open import open_data
from arignote.errors import DataError, UserError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "train" / "neg" / "0_1.txt", "Bad, bad film. Don't see it")
    write(tmp_path / "train" / "neg" / "1_2.txt", "ÄRGER bad")
    write(tmp_path / "train" / "pos" / "0_9.txt", "a film film film")
    write(tmp_path / "train" / "unsup" / "0_0.txt", "unlabelled " * 50)
    write(tmp_path / "train" / "urls_neg.txt", "beside the classes")
    write(tmp_path / "test" / "pos" / "0_8.txt", "a good film")
    write(tmp_path / "test" / "pos" / "1_8.TXT", "")
    write(tmp_path / "test" / "pos" / "notes.md", "no text file")
    return tmp_path


def test_words_and_labels(folder):
    data = open_data(f"textfolder:{folder},length=5", "none")
    assert data.classes == ("neg", "pos")
    assert data.vocabulary == (
        *("<padding>", "<unknown>", "film", "bad", "a", "don't", "it", "see", "ärger"),
    )
    assert (data.train_size, data.validation_size) == (3, 2)
    batch = data.train_batch(np.arange(3), seed=0, epoch=0)
    assert batch.inputs.tolist() == [[3, 3, 2, 5, 7], [8, 3, 0, 0, 0], [4, 2, 2, 2, 0]]
    assert batch.targets.tolist() == [0, 0, 1]
    batch = data.validation_batch(np.arange(2))
    assert batch.inputs.tolist() == [[4, 1, 2, 0, 0], [0, 0, 0, 0, 0]]
    assert batch.targets.tolist() == [1, 1]


def test_only_the_most_frequent_words_and_equals_in_the_order_of_the_alphabet(folder):
    data = open_data(f"textfolder:{folder},length=5,vocabulary=5", "none")
    assert data.vocabulary == ("<padding>", "<unknown>", "film", "bad", "a")
    assert data.train_batch(np.array([1]), seed=0, epoch=0).inputs.tolist() == [[1, 3, 0, 0, 0]]


def test_missing_and_unexpected_folders(folder):
    write(folder / "test" / "mixed" / "a.txt", "x")
    with pytest.raises(DataError, match=r"test: unknown class 'mixed': known: neg, pos"):
        open_data(f"textfolder:{folder}", "none")
    (folder / "train" / "mixed").mkdir()
    with pytest.raises(DataError, match=r"train/mixed holds no .txt file: put texts there, or rem"):
        open_data(f"textfolder:{folder}", "none")
    shutil.rmtree(folder / "test")
    with pytest.raises(DataError, match=r"has no validation texts: expected a folder val, .*\.txt"):
        open_data(f"textfolder:{folder}", "none")
    shutil.rmtree(folder / "train")
    with pytest.raises(DataError, match=r"has no folder train: expected .*/train/CLASS/\*\.txt"):
        open_data(f"textfolder:{folder}", "none")
    write(folder / "train" / "unsup" / "a.txt", "x")
    (folder / "test").mkdir()
    with pytest.raises(DataError, match=r"train has no class folders: expected .*CLASS/\*\.txt"):
        open_data(f"textfolder:{folder}", "none")


def test_bad_files(folder):
    write(folder / "train" / "neg" / "2_1.txt", b"caf\xe9 au lait")
    with pytest.raises(DataError, match=r"2_1.txt is not UTF-8: byte 0xe9 at offset 3: convert it"):
        open_data(f"textfolder:{folder}", "none")
    (folder / "train" / "neg" / "2_1.txt").unlink()
    (folder / "train" / "neg" / "link.txt").symlink_to(folder / "nowhere")
    with pytest.raises(DataError, match=r"link.txt cannot be read \(No such file or directory\)"):
        open_data(f"textfolder:{folder}", "none")


def test_bad_specs(folder):
    with pytest.raises(UserError, match=r"vocabulary: got '2', input should be greater than or eq"):
        open_data(f"textfolder:{folder},vocabulary=2", "none")
    with pytest.raises(UserError, match=r"length: got '0', input should be greater than or equal"):
        open_data(f"textfolder:{folder},length=0", "none")
    with pytest.raises(DataError, match=r"nowhere does not exist: write textfolder:DIR"):
        open_data(f"textfolder:{folder}/nowhere", "none")
