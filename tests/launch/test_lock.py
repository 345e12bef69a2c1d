"""Who runs a run."""

from __future__ import annotations

import errno
import fcntl

import pytest

from arignote.errors import UserError
from arignote.launch.lock import has_launcher, only_launcher


def test_one_launcher_at_a_time(tmp_path):
    message = r"is in use: another arignote is running it just now"
    with (
        only_launcher(tmp_path),
        pytest.raises(UserError, match=message),
        only_launcher(tmp_path),
    ):
        pass
    with only_launcher(tmp_path):
        pass


def test_whether_there_is_one(tmp_path):
    assert not has_launcher(tmp_path)
    with only_launcher(tmp_path):
        assert has_launcher(tmp_path)
    assert not has_launcher(tmp_path)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with only_launcher(tmp_path), only_launcher(tmp_path):
        assert has_launcher(tmp_path)
