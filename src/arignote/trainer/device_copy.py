"""From the memory that loaders write to a device: on a stream beside the trainer's."""

from __future__ import annotations

import mmap
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch

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

    `memory`, in which all batches are, is pinned (registered with the driver) where that can be
    done; where not, each batch goes through pinned memory of torch's.
    """

    def __init__(self, device: torch.device, memory: mmap.mmap) -> None:
        self._device = device
        # torch.cuda, torch.xpu: they have the same names.
        self._api: Any = getattr(torch, device.type)
        self._stream = self._api.Stream(device=device)
        self._pinned = _Pinned(memory) if device.type == "cuda" else None

    @property
    def pins(self) -> bool:
        """Whether batches are copied from where they are."""
        return self._pinned is not None and self._pinned.registered

    def begin(self, batch: Batch) -> Copy:
        """See `Copier.begin`."""
        if not self.pins:
            # Torch gives the same pinned memory out again only when the copy from it is done.
            batch = Batch(*(tensor.pin_memory() for tensor in batch))
        with self._api.stream(self._stream):
            copied = Batch(*(tensor.to(self._device, non_blocking=True) for tensor in batch))
        event = self._api.Event()
        event.record(self._stream)
        return _StreamCopy(copied, event, self._api.current_stream)

    def close(self) -> None:
        """See `Copier.close`."""
        self._stream.synchronize()
        if self._pinned is not None:
            self._pinned.close()


class _StreamCopy(Copy):
    def __init__(self, batch: Batch, event: Any, current_stream: Any) -> None:
        self._batch, self._event, self._current_stream = batch, event, current_stream

    def done(self) -> bool:
        return bool(self._event.query())

    def wait(self) -> None:
        self._event.synchronize()

    def use(self) -> Batch:
        stream = self._current_stream(self._batch.inputs.device)
        stream.wait_event(self._event)
        for tensor in self._batch:
            # It was allocated for another stream, which must not have it back before.
            tensor.record_stream(stream)
        return self._batch


class _Pinned:
    """Memory that CUDA copies from without a detour, as long as this is open."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._address = np.frombuffer(memory, np.uint8).ctypes.data
        self._runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        status = self._runtime.cudaHostRegister(self._address, len(memory), 0)
        self.registered = int(status) == 0
        """False: the driver does not take it (too much is locked, say)."""

    def close(self) -> None:
        if self.registered:
            self._runtime.cudaHostUnregister(self._address)
            self.registered = False
