"""For worker processes of tests: torch without its compiler, until something asks for it.

Every optimizer of torch imports the compiler, as long an import as that of torch itself, only
to say that here is nothing to compile. Python reads this file at its start, if its folder is
on PYTHONPATH (`tests/conftest.py`).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


class Absent(ModuleType):
    """What torch asks of its compiler while nothing is compiled; all else brings the real one."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """There is no graph."""

    @staticmethod
    def disable(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
        """It is not compiled anyway."""
        return function

    def __getattr__(self, name: str) -> Any:
        # Whoever looks through all modules is content without a file or the like.
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)


sys.modules[COMPILER] = Absent(COMPILER)
