"""Messages between a worker, the server of its loaders, and the loaders: JSON, and open files.

A socket pair that keeps the borders of messages, of this process tree alone: no port, no name.
Where the other end is no child (`spawn.py`, `forkserver/`) it is a connection of the same kind.
"""

from __future__ import annotations

import json
import selectors
import socket
import struct
from collections.abc import Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

_MOST_BYTES = 2**16
_MOST_TEXT_BYTES = _MOST_BYTES * 3 // 4
"""Of a message, as JSON."""
_MOST_FILES = 3


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process and user id of the other end."""
    form = "3i"
    length = struct.calcsize(form)
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, length)
    process, user, _ = struct.unpack(form, credentials)
    return process, user


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(channel: socket.socket, message: Message, files: tuple[int, ...] = ()) -> None:
    """Send a message, and with it open files.

    Raises:
        OSError: the other end is gone.
    """
    data = json.dumps(message).encode()
    if files:
        socket.send_fds(channel, [data], list(files))
    else:
        channel.send(data)


def fits(message: Message) -> bool:
    """Whether `receive` can take it whole."""
    return len(json.dumps(message)) <= _MOST_BYTES


def receive(channel: socket.socket) -> tuple[Message, list[int]] | None:
    """The next message and the files that came with it; None: the other end is gone."""
    try:
        data, files, _, _ = socket.recv_fds(channel, _MOST_BYTES, _MOST_FILES)
    except ConnectionResetError:
        # It went without reading all of ours; what it said before can still be read.
        data, files, _, _ = socket.recv_fds(channel, _MOST_BYTES, _MOST_FILES)
    if not data:
        return None
    message: Message = json.loads(data)
    return message, files


def readable(sources: Sequence[Any], seconds: float | None = None) -> list[Any]:
    """Those of `sources` that can be read within so many seconds (None: however long)."""
    # Not select.select, which knows no file above 1,023: a user may have as many open.
    with selectors.PollSelector() as selector:
        for source in sources:
            selector.register(source, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(seconds)]


def cut(text: str) -> str:
    """The end of a text that is too long for a message."""
    kept = text[-_MOST_TEXT_BYTES:]
    # Escaped, a character takes 1 to 12 bytes.
    while len(json.dumps(kept)) > _MOST_TEXT_BYTES:
        kept = kept[len(kept) // 8 + 1 :]
    return text if kept == text else f"...{kept}"
