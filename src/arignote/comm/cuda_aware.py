"""Does the MPI that is loaded take pointers into a GPU's memory?

Open MPI tells through MPIX_Query_cuda_support; MPICH and Cray's MPI through the variable that
switches it on.
"""

from __future__ import annotations

import ctypes
import os

_SWITCHES = ("MPICH_GPU_SUPPORT_ENABLED", "MPIR_CVAR_ENABLE_GPU")


def cuda_aware() -> bool:
    """Whether it says so; call it once MPI is loaded."""
    try:
        return bool(ctypes.CDLL(None).MPIX_Query_cuda_support())
    except AttributeError:
        return any(os.environ.get(name) == "1" for name in _SWITCHES)
