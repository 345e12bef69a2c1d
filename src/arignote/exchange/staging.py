"""The way of a device's vector through host memory, for routes that do not take it where it is.

Pinned memory, in chunks, on two streams beside the one that computes: while a chunk travels to the
other workers, later ones still come from the device, and earlier ones go back to it.

    device -> host      c0 c1 c2 c3
    route                  c0 c1 c2 c3
    host -> device            c0 c1 c2 c3

Whether a vector may be cut is the route's word (`Route.cuts`): the bits must be those of the whole.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from arignote import accelerator
from arignote.accelerator import SideStream

CHUNK = 1 << 20
"""Elements of a chunk: long enough that starting a copy costs little beside it."""


class Staging:
    """Host memory for the vectors of one device, kept from round to round.

    Args:
        streams: makes a stream of the device.
    """

    def __init__(
        self, device: torch.device, streams: Callable[[torch.device], SideStream] = SideStream
    ) -> None:
        self._device = device
        self._down, self._up = streams(device), streams(device)
        self._host: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def through(
        self,
        vector: torch.Tensor,
        dtype: torch.dtype,
        exchange: Callable[[torch.Tensor, slice], int],
        *,
        cuts: bool,
    ) -> int:
        """`exchange` each chunk (or, if not `cuts`, the whole) of `vector` in host memory.

        What the current stream is told after this comes after the last chunk is back.

        Args:
            dtype: of the chunks.
            exchange: gets a chunk and where it lies in `vector`, changes it, returns its bytes.

        Returns:
            The sum of what `exchange` returned.
        """
        elements = vector.numel()
        host = self._memory(elements, dtype)
        step = CHUNK if cuts else max(elements, 1)
        chunks = [slice(a, min(a + step, elements)) for a in range(0, elements, step)]
        self._down.follow()
        arrivals = [self._down.copy_(host[chunk], vector[chunk]) for chunk in chunks]
        wire_bytes = 0
        for chunk, arrival in zip(chunks, arrivals, strict=True):
            arrival.wait()
            wire_bytes += exchange(host[chunk], chunk)
            self._up.copy_(vector[chunk], host[chunk])
        self._up.join()
        return wire_bytes

    def _memory(self, elements: int, dtype: torch.dtype) -> torch.Tensor:
        key = (elements, dtype)
        if key not in self._host:
            self._host[key] = accelerator.host_memory(elements, dtype, self._device)
        return self._host[key]
