"""The loader processes of one worker: begun, heard, and begun again when they end.

The bad story of a loader that dies:
1. it is killed in the middle of a piece (by the kernel, out of memory; by a broken decoder),
2. its channel ends: the server forks another under the same number,
3. which gets all orders again that the first had not answered, in the same order,
4. and writes the same samples to the same place: nobody sees a difference.
After `_MOST_ENDS` ends without a piece in between it is no accident, and the run ends. The server
itself may die too: its loaders end with it, and another server takes its place.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from arignote.data.stages import STAGES, VIEW_BYTES, file_shown
from arignote.errors import LoaderError
from arignote.loading.arena import Arena
from arignote.loading.channel import Message, channel_pair, readable, receive, send
from arignote.loading.process import ServerProcess, raise_failure
from arignote.log import logger

_MOST_ENDS = 3


@dataclass
class _Loader:
    channel: socket.socket
    orders: deque[Message] = field(default_factory=deque)
    """Not answered yet."""
    ends: int = 0
    """Without an answer in between."""


class Loaders:
    """`count` processes that follow orders.

    Args:
        description: what `server.describe` gave.
        arena: shared with them; `VIEW_BYTES` each at its beginning tell which file they are at.
        worker: its rank, for messages.
    """

    def __init__(
        self, server: ServerProcess, description: Message, arena: Arena, count: int, worker: int
    ) -> None:
        self._server = server
        self._server_ends = 0
        self._description = description
        self._arena = arena
        self._worker = worker
        self.seconds = dict.fromkeys(STAGES, 0.0)
        """What they spent, all together."""
        self.restarts = 0
        server.tell(description)
        self._loaders = [_Loader(self._fork(number)) for number in range(count)]

    def __len__(self) -> int:
        return len(self._loaders)

    def order(self, number: int, order: Message) -> None:
        """Give a loader something to do; `hear` will tell that it is done."""
        loader = self._loaders[number]
        loader.orders.append(order)
        # One that is gone gets its orders again when its channel's end is heard.
        with suppress(OSError):
            send(loader.channel, order)

    def hear(self, seconds: float) -> Iterator[Message]:
        """The answers that come within so many seconds; ends once there were some, or none came.

        Raises:
            LoaderError: a loader ended again and again.
            ArignoteError: the data could not be opened there.
            ForeignError: nor by code that is not ours.
        """
        sources: list[Any] = [loader.channel for loader in self._loaders]
        ready = readable([self._server.channel, *sources], max(seconds, 0.0))
        # First, for the loaders of a server that is gone cannot be begun again.
        if self._server.channel in ready:
            ready.remove(self._server.channel)
            self._hear_server()
        for number in [sources.index(channel) for channel in ready]:
            loader = self._loaders[number]
            received = receive(loader.channel)
            if received is None:
                self._restart(number)
                continue
            message, _ = received
            loader.orders.popleft()
            loader.ends = self._server_ends = 0
            for name, spent in message["seconds"].items():
                self.seconds[name] += spent
            yield message

    def who_stalls(self, waited: str) -> str:
        """A line about those who owe answers."""
        return "; ".join(
            f"{self._name(f'loader {number}')} has brought nothing for {waited}{self._at(number)}: "
            "is its storage there?"
            for number, loader in enumerate(self._loaders)
            if loader.orders
        )

    def close(self) -> None:
        """No process is left when this returns."""
        for loader in self._loaders:
            loader.channel.close()
        self._server.close()

    def _hear_server(self) -> None:
        received = receive(self._server.channel)
        if received is None:
            # All loaders end with it.
            name = self._name("the server of the loaders")
            self._server_ends += 1
            if self._server_ends >= _MOST_ENDS:
                raise LoaderError(f"{name} ended {_MOST_ENDS} times: what it printed says why")
            self._server = self._server.again()
            self._server.tell(self._description)
            logger.warning("%s was ended: another takes its place", name)
            return
        message, _ = received
        if "failure" in message:
            raise_failure(message)
        logger.warning(
            "%s (pid %s) was ended by %s: another makes its samples",
            self._name(f"loader {message['ended']}"),
            message["process"],
            f"signal {-message['code']}" if message["code"] < 0 else f"code {message['code']}",
        )

    def _restart(self, number: int) -> None:
        loader = self._loaders[number]
        loader.ends += 1
        if loader.ends >= _MOST_ENDS:
            raise LoaderError(
                f"{self._name(f'loader {number}')} ended {_MOST_ENDS} times on the same samples"
                f"{self._at(number)}: out of memory, or a file that breaks its decoder?"
            )
        self.restarts += 1
        loader.channel.close()
        loader.channel = self._fork(number)
        for order in loader.orders:
            with suppress(OSError):
                send(loader.channel, order)

    def _fork(self, number: int) -> socket.socket:
        ours, theirs = channel_pair()
        with theirs:
            self._server.fork(number, theirs.fileno(), self._arena.file)
        return ours

    def _at(self, number: int) -> str:
        views = memoryview(self._arena.memory)
        file = file_shown(views[number * VIEW_BYTES : (number + 1) * VIEW_BYTES])
        return f", reading {file}" if file else ""

    def _name(self, what: str) -> str:
        return f"{what} of worker {self._worker}"
