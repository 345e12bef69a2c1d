"""How loops over millions of numbers are compiled: by Numba, without a C compiler.

Sums and products stay two roundings (no fused multiply-add): the bits do not depend on the
machine. Compiled once and kept in Numba's cache; where no folder can be written, once a process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def jit(function: Callable[..., Any]) -> Any:
    """Compile `function` when it is first called, to run without the interpreter's lock."""
    return _compiled(function)


def jit_measure(function: Callable[..., Any]) -> Any:
    """As `jit`, but sums are taken in any order: for measures, never for weights."""
    return _compiled(function, fastmath={"reassoc", "nsz"})


def _compiled(function: Callable[..., Any], **more: Any) -> Any:
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", **more}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)
