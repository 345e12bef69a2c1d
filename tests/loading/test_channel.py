"""Messages between processes that may be gone."""

from __future__ import annotations

import fcntl
import os
import resource
import socket

import pytest

from arignote.loading.arena import Arena
from arignote.loading.channel import channel_pair, cut, fits, readable, receive, send


def test_what_was_said_before_one_went_can_be_read() -> None:
    ours, theirs = channel_pair()
    with ours:
        send(ours, {"never": "read"})
        send(theirs, {"last": "word"})
        theirs.close()
        assert receive(ours) == ({"last": "word"}, [])
        assert receive(ours) is None


def test_open_files_come_along() -> None:
    arena = Arena(100)
    ours, theirs = channel_pair()
    with ours, theirs:
        send(ours, {"number": 3}, (arena.file,))
        message, (file,) = receive(theirs) or ({}, [0])
        assert message == {"number": 3}
        assert os.fstat(file).st_ino == os.fstat(arena.file).st_ino
        os.close(file)
    arena.close()


def test_a_long_text_is_cut_in_front() -> None:
    assert cut("short") == "short"
    for letter in ("x", "\u00e9", "\U0001f600", '"', "\udcff"):
        text = letter * 100_000 + "end"
        assert cut(text).startswith("...")
        assert cut(text).endswith("end")
        assert len(cut(text)) > 3000
        ours, theirs = channel_pair()
        with ours, theirs:
            send(ours, {"failure": cut(text)})
            assert receive(theirs) == ({"failure": cut(text)}, [])


def test_files_of_high_numbers() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 1200:
        pytest.skip(f"this process may have {hard} files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    ours, theirs = channel_pair()
    high = socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 1100))
    try:
        with ours, theirs, high:
            assert readable([ours, high], 0.0) == []
            send(ours, {"number": 3})
            assert readable([ours, high]) == [high]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_blocks_of_an_arena() -> None:
    arena = Arena(300, reserved_bytes=10)
    assert (arena.reserved_bytes, arena.size_bytes) == (64, 320)
    assert [arena.take(size) for size in (64, 65, 129, 64)] == [64, 128, None, 256]
    arena.give_back(128)
    assert [arena.take(size) for size in (64, 129, 64)] == [128, None, 192]
    with pytest.raises(
        Exception, match=r"MiB to share with the loaders cannot be had \(.*\): lower"
    ):
        Arena(2**62)
    arena.close()


@pytest.mark.parametrize("longer", [0, 1])
def test_what_fits_arrives_whole(longer: int) -> None:
    message = {"x": "y" * (2**16 - len('{"x": ""}') + longer)}
    assert fits(message) == (not longer)
    ours, theirs = channel_pair()
    with ours, theirs:
        send(ours, message)
        if not longer:
            assert receive(theirs) == (message, [])
