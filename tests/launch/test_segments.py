"""Shared memory that is left by a launcher that was killed, and what must not be taken for it."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arignote.launch import segments
from arignote.launch.segments import NotedSegments, remove_left

# No MPI's: tests that run meanwhile look for those.
NAMES = ("arignote_test_segment.",)

LAUNCHER = """
import mmap, os, sys
from pathlib import Path
from arignote.launch import segments

folder, segment = map(Path, sys.argv[1:])
segments._NAMES = ("arignote_test_segment.",)
segment.write_bytes(bytes(4096))
with segment.open("r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
notes = segments.NotedSegments(folder)
notes.note([os.getpid()])
print("noted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def segment(monkeypatch):
    monkeypatch.setattr(segments, "_NAMES", NAMES)
    path = Path("/dev/shm", f"{NAMES[0]}{os.getpid()}")
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def launcher(tmp_path, segment):
    """One whose worker (itself) maps a segment; and its control folder."""
    folder = tmp_path / "arignote-control"
    folder.mkdir()
    command = [sys.executable, "-c", LAUNCHER, str(folder), str(segment)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        try:
            assert process.stdout.readline() == b"noted\n"
            yield process, folder
        finally:
            process.kill()


def test_what_a_killed_launcher_left_is_removed(launcher, segment, tmp_path):
    process, folder = launcher
    remove_left(tmp_path)
    assert segment.exists()
    process.kill()
    process.wait()
    # A worker that is slow to end.
    with segment.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        remove_left(tmp_path)
        assert segment.exists()
        assert folder.exists()
    remove_left(tmp_path)
    assert not segment.exists()
    assert not folder.exists()


def test_another_segment_of_that_name_stays(launcher, segment, tmp_path):
    process, _ = launcher
    process.kill()
    process.wait()
    segment.rename(f"{segment}.old")
    segment.write_bytes(b"of another run")
    Path(f"{segment}.old").unlink()
    remove_left(tmp_path)
    assert segment.read_bytes() == b"of another run"


@pytest.mark.parametrize("content", ["", "{", "[3]", '{"a": 1}', '{"/dev/shm/x": 1}'])
def test_notes_of_anything_else(segment, tmp_path, content):
    (tmp_path / "arignote-x").mkdir()
    (tmp_path / "arignote-x" / "segments.json").write_text(content)
    remove_left(tmp_path)


def test_only_names_of_an_mpi_are_removed(segment, tmp_path):
    (tmp_path / "arignote-x").mkdir()
    mine = tmp_path / f"{NAMES[0]}mine"
    other = Path("/dev/shm", f"arignote_test_other.{os.getpid()}")
    for path in (mine, other):
        path.touch()
    notes = {str(path): segments._identity(path) for path in (mine, other)}
    (tmp_path / "arignote-x" / "segments.json").write_text(json.dumps(notes))
    try:
        remove_left(tmp_path)
        assert mine.exists()
        assert other.exists()
    finally:
        other.unlink()


def test_without_locks_nothing_is_noted(segment, tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(37, "No locks available")

    segment.write_bytes(bytes(4096))
    with segment.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        monkeypatch.setattr(segments.fcntl, "flock", refuse)
        with NotedSegments(tmp_path) as notes:
            notes.note([os.getpid()])
            notes.remove()
    assert (tmp_path / "segments.json").read_text() == ""
    assert not segment.exists()
