"""What torch can do with an accelerator: the one file that calls `torch.cuda`.

torch's builds for AMD's ROCm answer to the same calls under the same name. For another kind of
device (Intel's `xpu`) these functions, and the names in `config/devices.py`, are what to write.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch

from arignote.config.devices import ACCELERATOR, is_accelerator
from arignote.topology.gpus import TorchBuild, why_no_gpu


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


def computes_bf16(device: torch.device) -> bool:
    """Whether it has instructions for bf16: NVIDIA's from compute capability 8 on."""
    return torch.cuda.get_device_capability(device) >= (8, 0)


def settle(device: torch.device) -> None:
    """Wait until `device` has done all that this thread's current stream was told to."""
    torch.cuda.current_stream(device).synchronize()


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
