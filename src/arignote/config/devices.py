"""Device names: `cpu`, `cuda`, `cuda:1`, and Theano-MPI's `cuda0`, `cpu0`."""

from __future__ import annotations

import re

from arignote.errors import UserError

_DEVICE = re.compile(r"^(cpu|cuda)(?::?(\d+))?$")


def parse_device(text: str) -> str:
    """The device as torch writes it.

    >>> parse_device("cuda1"), parse_device("cpu0")
    ('cuda:1', 'cpu')

    Raises:
        UserError: it is no device name.
    """
    match = _DEVICE.match(text.strip())
    if match is None:
        raise UserError(f"got device {text.strip()!r}, expected cpu, cuda or cuda:N (as in cuda:0)")
    kind, index = match.groups()
    return kind if kind == "cpu" or index is None else f"{kind}:{index}"
