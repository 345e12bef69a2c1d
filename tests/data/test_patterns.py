"""Patterns of file names: ranges, stars, and what validates beside what trains."""

from __future__ import annotations

from pathlib import Path

import braceexpand
import pytest

from arignote.data.patterns import match_files, validation_files
from arignote.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    names = "a-09 a-10 a-11 b-9 b-10 [c]-1 train-0 train-1 validation-0 test-0 in/train/0 in/val/3"
    for name in names.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a-folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("a-09", "a-09"),
        ("a-{09..11}", "a-09 a-10 a-11"),
        ("a-{10..10}", "a-10"),
        ("b-{9..10}", "b-9 b-10"),
        ("a-*", "a-09 a-10 a-11"),
        ("*-{10..11}", "a-10 b-10 a-11"),
        ("a-1{0..1}", "a-10 a-11"),
        ("a-{0..1}{0..1}", None),
        ("a-{1..1}{0..1}", "a-10 a-11"),
        ("[c]-*", "[c]-1"),
        ("?-09", None),
    ],
)
def test_matching(folder, pattern, files):
    if files is None:
        with pytest.raises(DataError, match=r"no file .*: check the path, or the pattern"):
            match_files(pattern)
    else:
        assert match_files(pattern) == files.split()


@pytest.mark.parametrize(
    "pattern", ["a", "a{0..10}", "a{00..3}b", "{8..010}", "x{0..1}y{9..11}z", "{5..5}{05..6}"]
)
def test_ranges_as_webdataset_counts_them(folder, pattern):
    names = list(braceexpand.braceexpand(pattern))
    for name in names:
        (folder / name).touch()
    assert match_files(pattern) == names


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a-{09..12}", r"no file a-12: check the path, or the pattern a-\{09\.\.12\}"),
        ("a-folder", r"no file a-folder: check"),
        ("d-*", r"no file matches d-\*: check the path"),
        ("a-{3..1}", r"counts -1 files, expected 1 to 1,000,000: write \{FIRST\.\.LAST\}"),
        ("a-{0..1000000}", r"counts 1,000,001 files, expected 1 to"),
        ("a-{0..999}{0..999}{0..1}", r"counts 1,000 times 1,000 times 2 files, expected"),
    ],
)
def test_what_does_not_match(folder, pattern, message):
    with pytest.raises(DataError, match=message):
        match_files(pattern)


def test_what_validates(folder):
    assert validation_files("train-{0..1}") == ("validation-*", ["validation-0"])
    (folder / "validation-0").unlink()
    assert validation_files("train-*") == ("test-*", ["test-0"])
    assert validation_files("in/train/*") == ("in/val/*", ["in/val/3"])
    with pytest.raises(
        DataError, match=r"no 'train' in the name of these .*add validation=PATTERN"
    ):
        validation_files("a-*")
    with pytest.raises(DataError, match=r"no file matches val-9, validation-9, test-9: add valid"):
        validation_files("train-9")


def test_a_folder_above_is_no_name_of_theirs(folder):
    with pytest.raises(DataError, match="no 'train' in the name"):
        validation_files(str(Path("train", "x", "a-*")))
