"""What may be in the folder that is prepared, and what `--force` removes of it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from arignote.data.prepare import target
from arignote.data.shard_index import read_index
from arignote.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))
from prepare_setup import SIZE, contents, damage, prepare

FOREIGN = ("cat-labels.npy", "train-1.bin", "train-0000a.bin", ".mine.part", "index.json.part")
"""Names that are like ours, and are not."""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("index.json", '{"format": "another"}'),
        ("index.json", "[]"),
        ("index.json", "{"),
        ("progress.json", '{"done": 3}'),
        ("progress.json", ""),
    ],
)
def test_a_folder_of_somebody_else(source, tmp_path, name, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(content)
    before = contents(out)
    for force in (False, True):
        with pytest.raises(DataError, match=rf"out holds other files \({name}\): name a new or em"):
            prepare(source, out, force=force)
    assert contents(out) == before


@pytest.mark.parametrize("whose", ["index.json", "progress.json"])
def test_what_is_marked_twice_must_be_ours_twice(source, tmp_path, whose):
    prepare(source, tmp_path / "out")
    if whose == "index.json":
        damage(source / "train/class1/2.png")
        (tmp_path / "out" / "index.json").unlink()
        with pytest.raises(DataError, match=r"2\.png is damaged"):
            prepare(source, tmp_path / "out", force=True)
    (tmp_path / "out" / whose).write_text('{"mine": 1}')
    with pytest.raises(DataError, match=rf"out holds other files \({whose}\): name a new"):
        prepare(source, tmp_path / "out", force=True)


def test_force_removes_only_what_prepare_wrote(source, tmp_path):
    out = tmp_path / "out"
    prepare(source, out, size=SIZE + 1)
    for name in FOREIGN:
        (out / name).write_text("mine")
    (out / ".train-00007.bin.part").touch()
    (out / "train-00007.bin").touch()
    prepare(source, out, force=True)
    prepare(source, tmp_path / "new")
    found = contents(out)
    assert {found.pop(name) for name in FOREIGN} == {b"mine"}
    assert found == contents(tmp_path / "new")


# Killed where there is no list


def test_killed_while_the_first_list_is_written(source, tmp_path):
    prepare(source, tmp_path / "undisturbed")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".progress.json.part").write_text('{"sour')
    prepare(source, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("removed", [1, 3])
def test_killed_while_all_is_removed(source, tmp_path, monkeypatch, removed):
    prepare(source, tmp_path / "undisturbed")
    out = tmp_path / "out"
    prepare(source, out, size=SIZE + 1)
    unlink, calls = Path.unlink, []

    def killed(path, **options):
        calls.append(path.name)
        if len(calls) > removed:
            raise KeyboardInterrupt
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, force=True)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert calls[0] == "index.json"
    # Somebody may have removed the index alone, and want to keep the rest.
    before = contents(out)
    with pytest.raises(
        DataError, match=r"out holds t.*, and neither index.json nor progress.json: begin anew wi"
    ):
        prepare(source, out)
    assert contents(out) == before
    prepare(source, out, force=True)
    assert contents(out) == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("name", ["index.json", "progress.json"])
def test_a_damaged_one_beside_what_is_ours(source, tmp_path, name):
    out = tmp_path / "out"
    prepare(source, out)
    (out / "index.json").unlink()
    (out / name).write_text("[" * 100_000)
    with pytest.raises(DataError, match=rf"{name} is damaged.*anew with --force"):
        prepare(source, out)
    prepare(source, out, force=True)
    prepare(source, tmp_path / "new")
    assert contents(out) == contents(tmp_path / "new")


# Whole, or so it seems


@pytest.mark.parametrize("name", ["train-00001.bin", "validation-labels.npy"])
def test_a_file_of_what_is_complete_is_gone(source, tmp_path, name):
    prepare(source, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read \(No such file.*with --force"):
        prepare(source, tmp_path / "out")


def test_a_smaller_size_where_there_is_no_room(source, tmp_path, monkeypatch):
    images, free = 16, 16 * SIZE * SIZE * 3
    monkeypatch.setattr(
        target.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free)
    )
    with pytest.raises(DataError, match=r"are free: make room, choose a smaller --size or another"):
        prepare(source, tmp_path / "out", size=SIZE + 1)
    index = prepare(source, tmp_path / "out")
    assert index.train.images + index.validation.images == images
    assert json.loads((tmp_path / "out" / "index.json").read_text())["size"] == SIZE
    assert read_index(tmp_path / "out") == index
