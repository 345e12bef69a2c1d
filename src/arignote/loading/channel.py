"""Messages between a worker, the server of its loaders, and the loaders: JSON, and open files.

A socket pair that keeps the borders of messages, of this process tree alone: no port, no name.
"""

from __future__ import annotations

import json
import socket
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

_MOST_BYTES = 2**16
_MOST_FILES = 2


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


def cut(text: str) -> str:
    """The end of a text that is too long for a message."""
    # Escaped, a character may take six bytes.
    most = _MOST_BYTES // 8
    return text if len(text) <= most else "..." + text[-most:]
