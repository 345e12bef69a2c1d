"""What torch can do with an accelerator: the one file that calls `torch.cuda`.

torch's builds for AMD's ROCm answer to the same calls under the same name. For another kind of
device (Intel's `xpu`) these functions, and the names in `config/devices.py`, are what to write.
"""

from __future__ import annotations

import mmap
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch

from arignote.config.devices import ACCELERATOR, is_accelerator
from arignote.topology.gpus import TorchBuild, why_no_gpu
from arignote.topology.rows import SeenGpu

_OUT_OF_MEMORY = re.compile(
    r"(?:CUDA|HIP) (?:error: )?out of memory|(?:CU|HIP)BLAS_STATUS_ALLOC_FAILED"
)


def is_one(device: torch.device) -> bool:
    """Whether `device` is an accelerator; else it is the CPU."""
    return is_accelerator(device.type)


def available() -> bool:
    """Whether this process can compute on one."""
    return torch.cuda.is_available()


def why_none() -> str:
    """Why this process cannot compute on an accelerator; empty: it can."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if available():
            return ""
    version = torch.version
    build = TorchBuild(str(torch.__version__), version.cuda or "", version.hip or "")
    return why_no_gpu(build, newest=_newest_cuda(), said=str(said[0].message) if said else "")


def _newest_cuda() -> str:
    """That the driver knows; empty: there is no driver, or torch does not ask one."""
    ask = getattr(torch._C, "_cuda_getDriverVersion", None)
    number = int(ask()) if ask is not None and torch.version.cuda is not None else 0
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


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


def pci_address(device: torch.device) -> str:
    """As in `0000:3b:00.0`; empty where this torch does not tell."""
    found: Any = torch.cuda.get_device_properties(device)
    try:
        domain, bus, slot = found.pci_domain_id, found.pci_bus_id, found.pci_device_id
    except AttributeError:
        return ""
    return f"{domain:04x}:{bus:02x}:{slot:02x}.0"


def memory_bytes(index: int) -> tuple[int, int]:
    """(free, total)."""
    free, total = torch.cuda.mem_get_info(index)
    return free, total


def seen() -> list[SeenGpu]:
    """All that this process sees; a context is made on each."""
    found = []
    for index in range(count() if available() else 0):
        device = torch.device(ACCELERATOR, index)
        free: float | None = None
        total = torch.cuda.get_device_properties(device).total_memory
        # One that is full cannot even be asked.
        with suppress(RuntimeError):
            free = memory_bytes(index)[0] / 2**30
        found.append(SeenGpu(str(device), name(index), pci_address(device), free, total / 2**30))
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is a device's memory that `error` is about.

    What is raised depends on who asked: torch's allocator, the driver, or a library.
    """
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


def computes_bf16(device: torch.device) -> bool:
    """Whether it has instructions for bf16: NVIDIA's from compute capability 8 on."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def settle(device: torch.device) -> None:
    """Wait until `device` has done all that this thread's current stream was told to."""
    torch.cuda.current_stream(device).synchronize()


def keep_for_current_stream(tensor: torch.Tensor) -> None:
    """Its memory is not given out again before what the current stream is told by then is done."""
    tensor.record_stream(torch.cuda.current_stream(tensor.device))


def host_memory(elements: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Host memory, (elements,), that `device` can copy to and from while other work goes on."""
    return torch.empty(elements, dtype=dtype, pin_memory=is_one(device))


class PinnedMemory:
    """Memory of this process that a device copies from without a detour, as long as this is open.

    Args:
        memory: is registered with the device's driver, which may refuse (too much is locked, say).
    """

    def __init__(self, memory: mmap.mmap) -> None:
        self._address = np.frombuffer(memory, np.uint8).ctypes.data
        self._runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
        self.is_pinned = int(self._runtime.cudaHostRegister(self._address, len(memory), 0)) == 0

    def close(self) -> None:
        """Unpin it; nothing may be under way from it."""
        if self.is_pinned:
            self._runtime.cudaHostUnregister(self._address)
            self.is_pinned = False


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

    def done(self) -> bool:
        """Whether the device has got there."""
        return self._event is None or bool(self._event.query())

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
