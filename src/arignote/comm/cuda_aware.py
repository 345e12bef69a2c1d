"""Does the MPI that is loaded say that it takes pointers into a GPU's memory?

Open MPI and MPICH tell through MPIX_Query_cuda_support; Cray's MPI through the variable that
switches it on. What they say is tried before it is trusted: `comm.device_buffers`.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

_SWITCHES = ("MPICH_GPU_SUPPORT_ENABLED", "MPIR_CVAR_ENABLE_GPU")
_MAPPED = Path("/proc/self/maps")


def cuda_aware() -> bool:
    """Whether it says so; call it once MPI is loaded."""
    return says_cuda_aware() is True


def says_cuda_aware() -> bool | None:
    """What it says; None: nothing. Call it once MPI is loaded."""
    for library in _loaded():
        try:
            return bool(ctypes.CDLL(library).MPIX_Query_cuda_support())
        except (AttributeError, OSError):
            continue
    told = {os.environ[name] for name in _SWITCHES if name in os.environ}
    return "1" in told if told else None


def _loaded() -> Iterator[str | None]:
    """Where to look for MPI's functions: mpi4py keeps those of the one it loads to itself."""
    yield None
    if _MAPPED.exists():
        lines = _MAPPED.read_text().splitlines()
        yield from sorted({line.split()[-1] for line in lines if "/libmpi" in line})
