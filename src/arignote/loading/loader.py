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
        except Exception as error:
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
    with stage("copy"):
        out.inputs[:] = batch.inputs.numpy()
        out.targets[:] = batch.targets.numpy()


def view(memory: mmap.mmap, place: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The array at a place: `dtype`, `shape`, and where it begins, in bytes."""
    shape = tuple(place["shape"])
    count = int(np.prod(shape, dtype=np.int64))
    return np.frombuffer(memory, place["dtype"], count, place["at"]).reshape(shape)
