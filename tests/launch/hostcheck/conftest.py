"""Facts of hosts that nobody has to have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arignote.launch.hostcheck.report import HostFacts

_PACKAGES = ("arignote", "torch", "numpy", "mpi4py", "numba", "pydantic", "psutil", "safetensors")
_FACTS: dict[str, Any] = {
    "python": "3.11.7",
    "executable": "/env/bin/python",
    "packages": dict.fromkeys(_PACKAGES, "1.0"),
    "code": "abc",
    "mpi": "Open MPI v5.0.11",
    "mpi_problem": "",
    "devices": [],
    "cores": 4,
    "memory_gib": 16.0,
    "free_memory_gib": 8.0,
    "free_shared_memory_gib": 8.0,
    "ways": {},
}


def make_facts(host: str, **changes: Any) -> HostFacts:
    """Of a good host, but for `changes`; packages are changed one by one."""
    packages = {**_FACTS["packages"], **changes.pop("packages", {})}
    own = {"node": host, "interfaces": {"lo": ["127.0.0.1"], "eth0": [f"10.0.0.{host[-1]}"]}}
    return HostFacts(**{**_FACTS, **own, **changes, "packages": packages})


@pytest.fixture
def hosts() -> Callable[..., dict[str, HostFacts]]:
    """hosts({"cores": 8}, {}): h0 and h1, with these changes."""

    def make(*changes: dict[str, Any]) -> dict[str, HostFacts]:
        return {f"h{i}": make_facts(f"h{i}", **change) for i, change in enumerate(changes)}

    return make
