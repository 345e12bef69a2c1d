"""Folders that cannot be written, disks that fail."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from pathlib import Path

import pytest

from arignote.data.prepare import output
from arignote.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))
from prepare_setup import contents, damage, prepare, refuse


def test_targets_that_cannot_be(source, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file is a file: name a folder"):
        prepare(source, tmp_path / "file")
    with pytest.raises(DataError, match=r"below cannot be written \(Not a directory\): make it wr"):
        prepare(source, tmp_path / "file" / "below")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    for force in (False, True):
        with pytest.raises(DataError, match=r"full holds other files \(notes.txt\): name a new or"):
            prepare(source, tmp_path / "full", force=force)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 6, 3))
    with pytest.raises(DataError, match=r"out needs 0.0 MB, and 0.0 MB are free: make room, choos"):
        prepare(source, tmp_path / "out")


def test_two_at_a_time(source, tmp_path):
    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match=r"out is in use: another prepare writes into it"):
        prepare(source, tmp_path / "out")
    os.close(handle)


def test_a_file_system_without_locks(source, tmp_path, monkeypatch):
    def refuse_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(output.fcntl, "flock", refuse_locks)
    assert prepare(source, tmp_path / "out").train.images == 11


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "make room, and run it again"), (errno.EACCES, "make it writable, or name an")],
)
def test_a_disk_that_fails(source, tmp_path, monkeypatch, number, advice):
    prepare(source, tmp_path / "undisturbed")
    fsync, calls = os.fsync, []

    def fail(handle):
        calls.append(handle)
        # Two for the first list, four for a shard and the list that names it.
        if len(calls) == 2 + 4 + 1:
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(output.os, "fsync", fail)
    message = rf"out cannot be written \({os.strerror(number)}\): {advice}.*: whole shards are kept"
    with pytest.raises(DataError, match=message):
        prepare(source, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["progress.json", "train-00000.bin"]
    monkeypatch.setattr(output.os, "fsync", fsync)
    prepare(source, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_a_disk_that_is_full(source, tmp_path):
    prepare(source, tmp_path / "undisturbed")
    path = source / "val" / "class0" / "1.png"
    good = path.read_bytes()
    damage(path)
    with pytest.raises(DataError, match=r"1\.png is damaged"):
        prepare(source, tmp_path / "out")
    path.write_bytes(good)
    (tmp_path / "out" / ".validation-00000.bin.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"out cannot be written \(No space left on device\): make"):
        prepare(source, tmp_path / "out")
    prepare(source, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_what_cannot_be_removed(source, tmp_path, monkeypatch):
    prepare(source, tmp_path / "out")
    refuse(monkeypatch, "unlink")
    with pytest.raises(DataError, match=r"out cannot be written \(Permission denied\): make it wr"):
        prepare(source, tmp_path / "out", force=True)
