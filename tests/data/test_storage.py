"""Storage that fails for a moment, or for good."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from arignote.data import storage
from arignote.errors import DataError


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """failing(errno, times): the next reads fail so often; the pauses that were made."""
    pauses: list[float] = []
    open_file = Path.open

    def fail(number: int, times: int) -> list[float]:
        left = [times]

        def fails_first(path: Path, mode: str) -> Any:
            if left[0]:
                left[0] -= 1
                raise OSError(number, os.strerror(number))
            return open_file(path, mode)

        monkeypatch.setattr(Path, "open", fails_first)
        return pauses

    monkeypatch.setattr(storage.time, "sleep", pauses.append)
    clock = storage.time.monotonic
    monkeypatch.setattr(storage.time, "monotonic", lambda: clock() + sum(pauses))
    return fail


def test_what_passes_is_tried_again(failing: Any, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    pauses = failing(errno.ESTALE, 3)
    assert storage.read_file(str(tmp_path / "a")) == b"content"
    assert pauses == [0.1, 0.2, 0.4]
    assert storage.read_file(str(tmp_path / "a"), 2, 3) == b"nte"


def test_not_for_ever(failing: Any, tmp_path: Path) -> None:
    pauses = failing(errno.EIO, 1000)
    with pytest.raises(
        DataError, match=r"/a cannot be read \(Input/output error\), tried for 20 s: is its storage"
    ):
        storage.read_file(str(tmp_path / "a"))
    assert 15 < sum(pauses) <= storage.PATIENCE_SECONDS
    assert max(pauses) == 2.0


def test_what_does_not_pass(failing: Any, tmp_path: Path) -> None:
    pauses = failing(errno.EACCES, 1)
    with pytest.raises(DataError, match=r"/a cannot be read \(Permission denied\): make it read"):
        storage.read_file(str(tmp_path / "a"))
    assert pauses == []
