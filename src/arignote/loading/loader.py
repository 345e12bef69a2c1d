"""A loader: writes the samples that it is asked for into memory that it shares with its worker."""

from __future__ import annotations

import mmap
import socket
from typing import Any

import numpy as np

from arignote.data.arrays import ArrayDataset, Arrays
from arignote.data.base import Dataset
from arignote.data.encoded import decode_alone
from arignote.data.stages import VIEW_BYTES, show_in, stage, take_seconds
from arignote.errors import DataError
from arignote.loading.channel import Message, receive, send
from arignote.loading.server import failure_message


def load(number: int, dataset: Dataset, channel: socket.socket, memory: mmap.mmap) -> None:
    """Follow orders until the worker is gone."""
    # Each loader has about a core; threads would be switched between for nothing.
    decode_alone()
    show_in(memoryview(memory)[number * VIEW_BYTES : (number + 1) * VIEW_BYTES])
    while (received := receive(channel)) is not None:
        order, _ = received
        answer: Message = {"batch": order["batch"]}
        try:
            _follow(order, dataset, memory)
        except BaseException as error:
            # Also what ends a program: it is the user's data set that says so. A loader itself is
            # ended by signals, and by its channel.
            answer |= failure_message(error)
        try:
            send(channel, {**answer, "seconds": take_seconds()})
        except OSError:
            return


def _follow(order: Message, dataset: Dataset, memory: mmap.mmap) -> None:
    indices = view(memory, order["indices"])
    out = Arrays(view(memory, order["inputs"]), view(memory, order["targets"]))
    when = {"seed": order["seed"], "epoch": order["epoch"]}
    if isinstance(dataset, ArrayDataset):
        dataset.load(order["split"], indices, out, **when)
        return
    batch = (
        dataset.train_batch(indices, **when)
        if order["split"] == "train"
        else dataset.validation_batch(indices)
    )
    given = Arrays(batch.inputs.numpy(), batch.targets.numpy())
    check_alike(given, out, f"{order['split']} batch of {type(dataset).__name__}")
    with stage("copy"):
        out.inputs[:] = given.inputs
        out.targets[:] = given.targets


def check_alike(given: Arrays, out: Arrays, name: str) -> None:
    """Check that a batch of a user's data set is what its first sample was.

    NumPy would repeat or convert what is not, without a word.

    Raises:
        DataError: it is not.
    """
    for part, array, expected in zip(Arrays._fields, given, out, strict=True):
        if (array.dtype, array.shape) != (expected.dtype, expected.shape):
            raise DataError(
                f"a {name} has {part} {array.dtype} of shape {array.shape}, expected "
                f"{expected.dtype} of shape {expected.shape}, like its first sample: bring all to "
                "one, or have the worker load them itself with --loaders 0"
            )


def view(memory: mmap.mmap, place: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The array at a place: `dtype`, `shape`, and where it begins, in bytes."""
    shape = tuple(place["shape"])
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, place["dtype"], count, place["at"]).reshape(shape)
