"""Device names: `cpu`, `cuda`, `cuda:1`, and Theano-MPI's `cuda0`, `cpu0`.

torch calls a GPU `cuda`, in its builds for AMD's ROCm too. Here, and for what torch can do with one
in `accelerator.py`, the word is known; everything else asks these two.

`cuda` alone is a GPU of the worker's host by its place among the host's workers: of g that it sees,
the k-th worker (from 0) of those that ask so has number k mod g.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from arignote.errors import UserError

CPU = "cpu"
ACCELERATOR = "cuda"
"""The kind of device that vectors may live on beside the CPU, as torch calls it."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that hides devices from a process."""
VISIBLE_OF_AMD = (VISIBLE, "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""Those that hide AMD's: all of them count."""
EXAMPLE = f"{ACCELERATOR}:0,{ACCELERATOR}:1"
"""What `--devices` looks like."""

KINDS = f"(?:{CPU}|{ACCELERATOR})"
"""As a regular expression."""
_DEVICE = re.compile(rf"^({KINDS})(?::?(\d+))?$")


def parse_device(text: str) -> str:
    """The device as torch writes it.

    >>> parse_device("cuda1"), parse_device("cpu0")
    ('cuda:1', 'cpu')

    Raises:
        UserError: it is no device name.
    """
    match = _DEVICE.match(text.strip())
    if match is None:
        raise UserError(
            f"got device {text.strip()!r}, expected {CPU}, {ACCELERATOR} or {ACCELERATOR}:N "
            f"(as in {ACCELERATOR}:0)"
        )
    kind, index = match.groups()
    return kind if kind == CPU or index is None else f"{kind}:{index}"


def is_accelerator(name: str) -> bool:
    """Whether a device's name (`cuda:1`), or its type alone, is of an accelerator."""
    return name.partition(":")[0] == ACCELERATOR


def same_for_all(devices: Sequence[str]) -> bool:
    """Whether these are one device without a number, which then is every worker's."""
    return len(devices) == 1 and ":" not in parse_device(devices[0])


def count_workers(devices: object) -> bool:
    """Whether the devices of a layer of settings say how many workers there are."""
    # What is no list of names is told of when the layers are merged.
    if not isinstance(devices, list) or not all(isinstance(device, str) for device in devices):
        return False
    return bool(devices) and not same_for_all(devices)


def device_of(devices: Sequence[str], rank: int) -> str:
    """The device that a worker asks for, of those in the settings; none: the CPU."""
    if not devices:
        return CPU
    return parse_device(devices[0 if same_for_all(devices) else rank])


def any_accelerator(devices: Sequence[str]) -> bool:
    """Whether a worker asks for one."""
    return any(is_accelerator(parse_device(device)) for device in devices)


def number_of(devices: Sequence[str], rank: int, *, neighbours: Sequence[int], visible: int) -> int:
    """The number of the accelerator that a worker asks for, on its host.

    Args:
        neighbours: the ranks of all workers of its host, in order.
        visible: how many it sees there; at least one.
    """
    number = device_of(devices, rank).partition(":")[2]
    if number:
        return int(number)
    alike = [other for other in neighbours if device_of(devices, other) == ACCELERATOR]
    return alike.index(rank) % visible
