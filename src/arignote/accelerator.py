"""What torch can do with an accelerator: the one file that calls `torch.cuda`.

torch's builds for AMD's ROCm answer to the same calls under the same name. For another kind of
device (Intel's `xpu`) these functions, and the names in `config/devices.py`, are what to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from arignote.config.devices import ACCELERATOR, is_accelerator


def is_one(device: torch.device) -> bool:
    """Whether `device` is an accelerator; else it is the CPU."""
    return is_accelerator(device.type)


def available() -> bool:
    """Whether this process can compute on one."""
    return torch.cuda.is_available()


def why_none() -> str:
    """Why this process cannot compute on an accelerator; empty: it can."""
    if torch.version.cuda is None and torch.version.hip is None:
        return "its torch is built without CUDA"
    if available():
        return ""
    return mismatch() or "its torch sees none"


def mismatch() -> str:
    """What is wrong between the driver and what torch is built for; empty: nothing, or no driver.

    A driver runs everything that is built for its own major version of CUDA, or an older one.
    """
    built_for = torch.version.cuda
    ask = getattr(torch._C, "_cuda_getDriverVersion", None)
    if built_for is None or ask is None:
        return ""
    newest = int(ask())  # 1000 * major + 10 * minor; 0: no driver
    if not 0 < newest < 1000 * int(built_for.partition(".")[0]):
        return ""
    return (
        f"the driver knows CUDA {newest // 1000}.{newest % 1000 // 10} at most and torch is built "
        f"for {built_for}: update the driver, or install a torch that is built for it"
    )


def count() -> int:
    """How many this process sees."""
    return torch.cuda.device_count()


def use(device: torch.device) -> None:
    """Let this thread's work on devices go to `device` by itself."""
    torch.cuda.set_device(device)


def name(index: int) -> str:
    """As its maker calls it."""
    return torch.cuda.get_device_name(index)


def identity(device: torch.device) -> str:
    """The same for one device in every process of a host, whatever number it has there."""
    return str(torch.cuda.get_device_properties(device).uuid)


def memory_bytes(index: int) -> tuple[int, int]:
    """(free, total)."""
    free, total = torch.cuda.mem_get_info(index)
    return free, total


def computes_bf16(device: torch.device) -> bool:
    """Whether it has instructions for bf16: NVIDIA's from compute capability 8 on."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def settle(device: torch.device) -> None:
    """Wait until `device` has done all that this thread's current stream was told to."""
    torch.cuda.current_stream(device).synchronize()


def host_memory(elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Host memory, (elements,), that `device` can copy to and from while other work goes on."""
    return torch.empty(elements, dtype=dtype, pin_memory=is_one(device))


class DeviceClock:
    """Cuts of a recorder's time (`recorder.phases.Clock`) as a device comes to them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def cut(self) -> Any:
        """An event that the current stream is told now."""
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def seconds(self, since: Any, until: Any, *, wait: bool) -> float | None:
        """Between two events of the device; None: it is not there yet."""
        for event in (since, until):
            if wait:
                event.synchronize()
            elif not event.query():
                return None
        return float(since.elapsed_time(until)) / 1000


class Mark:
    """A point in what a device's current stream has been told; on the CPU all is done at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._event: Any = None
        if is_one(device):
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(device))

    def wait(self) -> None:
        """Wait until the device has got there."""
        if self._event is not None:
            self._event.synchronize()

    def precede(self) -> None:
        """What the current stream is told from now on comes after this point."""
        if self._event is not None:
            torch.cuda.current_stream(self._device).wait_event(self._event)


class SideStream:
    """A stream of `device` beside the current one; on the CPU all is done at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = None
        if is_one(device):
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Inside, it is this thread's current stream."""
        if self._stream is None:
            yield
            return
        with torch.cuda.stream(self._stream):
            yield

    def follow(self, mark: Mark | None = None) -> None:
        """What it is told from now on comes after `mark`; None: after the current stream's work."""
        mark = mark or Mark(self._device)
        with self.inside():
            mark.precede()

    def join(self) -> None:
        """What the current stream is told from now on comes after this one's work."""
        with self.inside():
            mark = Mark(self._device)
        mark.precede()

    def copy_(self, target: torch.Tensor, source: torch.Tensor) -> Mark:
        """Copy here, waiting for nothing; the point at which it is done."""
        with self.inside():
            target.copy_(source, non_blocking=True)
            return Mark(self._device)


def random_state() -> torch.Tensor:
    """Of the current device's generator."""
    return torch.cuda.get_rng_state()


def set_random_state(state: torch.Tensor) -> None:
    """Take back what `random_state` gave."""
    torch.cuda.set_rng_state(state)


def lend(vector: torch.Tensor) -> dict[str, Any]:
    """What another process of this host needs to open `vector`, as JSON can hold it.

    torch counts who still uses the memory: once for each call.
    """
    storage: Any = vector.untyped_storage()
    _, *fields = storage._share_cuda_()
    return {
        "device": identity(vector.device),
        "offset": vector.storage_offset(),
        "fields": [f.hex() if isinstance(f, bytes) else f for f in fields],
    }


def borrow(loan: dict[str, Any], like: torch.Tensor) -> torch.Tensor:
    """Another process's vector, of the same elements and dtype as `like`.

    Raises:
        LookupError: this process does not see its device.
        RuntimeError: the driver refuses.
    """
    here = {identity(torch.device(ACCELERATOR, n)): n for n in range(count())}
    if loan["device"] not in here:
        raise LookupError(f"GPU {loan['device']} is hidden from it")
    device = torch.device(ACCELERATOR, here[loan["device"]])
    fields = [bytes.fromhex(field) if isinstance(field, str) else field for field in loan["fields"]]
    storage = torch.UntypedStorage._new_shared_cuda(device.index, *fields)
    opened = torch.empty(0, dtype=like.dtype, device=device)
    return opened.set_(storage, loan["offset"], like.shape, like.stride())
