"""How loops over millions of numbers are compiled: by Numba, without a C compiler.

Sums and products stay two roundings (no fused multiply-add): the bits do not depend on the
machine. Compiled once and kept in Numba's cache; where no folder can be written, once a process.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np


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


def load(loops: Iterable[Any], dtypes: Iterable[np.dtype[Any]]) -> None:
    """Compile `loops`, or read them from the cache, for vectors and numbers of these types, now.

    The bad story of one that is compiled when it is first called:
    1. the first letter comes to worker 1, whose step then lasts for 0.4 s of a free core, and for
       seconds where nothing is in the cache,
    2. the others make hundreds of steps meanwhile, and mix in weights of long ago;
    3. where it is the thread that holds the centre, all visits wait for it.
    """
    for loop in loops:
        parameters = inspect.signature(loop).parameters.values()
        for dtype in set(dtypes):
            loop(
                *(
                    np.zeros(1, dtype) if parameter.annotation == "Array" else dtype.type(0)
                    for parameter in parameters
                )
            )
