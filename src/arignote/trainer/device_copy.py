"""From the memory that loaders write to a device: on a stream beside the trainer's."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod

import torch

from arignote.accelerator import Mark, PinnedMemory, SideStream, keep_for_current_stream, settle
from arignote.data.base import Batch


class Copy(ABC):
    """A batch on its way."""

    @abstractmethod
    def done(self) -> bool:
        """Whether its source may be written again."""

    @abstractmethod
    def wait(self) -> None:
        """Until it is done."""

    @abstractmethod
    def use(self) -> Batch:
        """The batch there, for what the trainer gives its device to do from now on."""


class Copier(ABC):
    """Begins copies; they end in the order in which they were begun."""

    @abstractmethod
    def begin(self, batch: Batch) -> Copy:
        """Of a batch in host memory, which stays as it is until the copy is done."""

    @abstractmethod
    def close(self) -> None:
        """No copy is under way, and none follows."""


class StreamCopier(Copier):
    """Copies on a stream of its own.

    `memory`, in which all batches are, is pinned where that can be done; where not, each batch
    goes through pinned memory of torch's.
    """

    def __init__(self, device: torch.device, memory: mmap.mmap) -> None:
        self._device = device
        self._stream = SideStream(device)
        self._memory = PinnedMemory(memory)

    @property
    def pins(self) -> bool:
        """Whether batches are copied from where they are."""
        return self._memory.is_pinned

    def begin(self, batch: Batch) -> Copy:
        """See `Copier.begin`."""
        if not self.pins:
            # Torch gives the same pinned memory out again only when the copy from it is done.
            batch = Batch(*(tensor.pin_memory() for tensor in batch))
        with self._stream.inside():
            copied = Batch(*(tensor.to(self._device, non_blocking=True) for tensor in batch))
            return _StreamCopy(copied, Mark(self._device))

    def close(self) -> None:
        """See `Copier.close`."""
        with self._stream.inside():
            settle(self._device)
        self._memory.close()


class _StreamCopy(Copy):
    def __init__(self, batch: Batch, mark: Mark) -> None:
        self._batch, self._mark = batch, mark

    def done(self) -> bool:
        return self._mark.done()

    def wait(self) -> None:
        self._mark.wait()

    def use(self) -> Batch:
        self._mark.precede()
        for tensor in self._batch:
            # It was allocated for another stream, which must not have it back before.
            keep_for_current_stream(tensor)
        return self._batch
