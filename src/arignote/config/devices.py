"""Device names: `cpu`, `cuda`, `cuda:1`, and Theano-MPI's `cuda0`, `cpu0`.

torch calls a GPU `cuda`, in its builds for AMD's ROCm too. Here, and for what torch can do with one
in `accelerator.py`, the word is known; everything else asks these two.
"""

from __future__ import annotations

import re

from arignote.errors import UserError

CPU = "cpu"
ACCELERATOR = "cuda"
"""The kind of device that vectors may live on beside the CPU, as torch calls it."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable that hides devices from a process."""
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
