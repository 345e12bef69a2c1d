"""`python -m arignote.loading.server FD`: opens the data once, and forks a loader when asked to.

Started before MPI and CUDA are touched, because a process that uses them must not be forked.
What to open comes as JSON on stdin; then each message on the channel FD brings a loader's number,
its end of a channel, and the memory that it shares with the worker.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import Any

from arignote import errors
from arignote.config.model_source import find_model
from arignote.config.settings import Settings
from arignote.config.spec import parse_spec
from arignote.data.base import Dataset
from arignote.data.byte_images import fed_dataset
from arignote.data.images import ImageDataset
from arignote.errors import ArignoteError
from arignote.loading.channel import Message, cut, readable, receive, send
from arignote.orphan import die_with_parent
from arignote.registry import DATA


def main(file: int) -> None:
    """Serve until the worker is gone."""
    die_with_parent()
    # Ctrl-C is the launcher's to handle, and the worker's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = socket.socket(fileno=file)
    text = sys.stdin.read()
    if not text:
        return
    try:
        dataset = open_described(json.loads(text))
    except BaseException as error:
        with suppress(OSError):
            send(channel, failure_message(error))
        return
    _Server(channel, dataset).run()


def describe(settings: Settings, dataset: Dataset, *, own_data: bool) -> Message:
    """What `open_described` needs to open `dataset` again; `own_data`: by its model's `data`."""
    # What a user's own data knows, its code says again. In images of ours it is counted.
    known = dataset.known() if isinstance(dataset, ImageDataset) or not own_data else None
    return {"settings": settings.model_dump(), "own_data": own_data, "known": known}


def open_described(description: Message) -> Dataset:
    """The data set, as the worker is fed from it.

    Raises:
        UserError: it cannot be opened (any more).
    """
    settings = Settings(**description["settings"])
    return fed_dataset(_open(settings, description), settings)


def _open(settings: Settings, description: Message) -> Dataset:
    if not description["own_data"]:
        spec = parse_spec(settings.run.data)
        kind: type[Dataset] = DATA.load(spec.name)
        augment = settings.train.augment
        return kind.open_again(spec, augment=augment, known=description["known"])
    import torch

    from arignote.frameworks.seeds import seed_build

    torch.set_num_threads(1)
    model: Any = find_model(settings.run.model).load()()
    model.settings = settings
    # As in the worker: data that draws at random draws the same.
    seed_build(settings.run.seed)
    dataset: Dataset = model.data()
    if description["known"] is not None:
        dataset.learn(description["known"])
    return dataset


def failure_message(error: BaseException) -> Message:
    """What the worker is told: one line of ours, or the traceback of somebody else's code."""
    if not isinstance(error, ArignoteError):
        return {"kind": "", "failure": cut("".join(traceback.format_exception(error)))}
    # Of a class that is not there, the nearest that is: the worker knows no other.
    kinds = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return {"kind": next(kinds), "failure": cut(str(error))}


class _Server:
    """Forks loaders, and tells how they ended."""

    def __init__(self, channel: socket.socket, dataset: Dataset) -> None:
        self._channel = channel
        self._dataset = dataset
        self._numbers: dict[int, int] = {}
        """Process id -> the loader's number."""
        # A child's end wakes the wait for messages.
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)

    def run(self) -> None:
        """Until the worker closes its end; the loaders end with this process."""
        sources: list[Any] = [self._channel, self._woken]
        while True:
            ready = readable(sources)
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._tell_who_ended()
            if self._channel in ready:
                received = receive(self._channel)
                if received is None:
                    return
                message, files = received
                self._fork(int(message["loader"]), *files)

    def _fork(self, number: int, channel: int, memory: int) -> None:
        server = os.getpid()
        process = os.fork()
        if process:
            os.close(channel)
            os.close(memory)
            self._numbers[process] = number
            return
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(parent=server)
            self._channel.close()
            from arignote.loading.loader import load

            load(number, self._dataset, socket.socket(fileno=channel), mmap.mmap(memory, 0))
        finally:
            os._exit(0)

    def _tell_who_ended(self) -> None:
        # By name: other children are the user's data set's, and its code may wait for them.
        for process, number in list(self._numbers.items()):
            found, status = os.waitpid(process, os.WNOHANG)
            if not found:
                continue
            del self._numbers[process]
            ended = {"ended": number, "process": process}
            with suppress(OSError):
                send(self._channel, {**ended, "code": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main(int(sys.argv[1]))
