"""Whether the workers of a host are forked from one process that has imported everything once."""

from __future__ import annotations

import sys

from arignote.config.settings import Launch
from arignote.launch.placement import Placement, usable_cores

_MANY = 3
"""Where a core has more workers than that, they are. Below, each is the very process that the
launcher started, which is simpler to look at, and the imports of a start take some ten seconds."""


def worker_module(settings: Launch, placement: Placement) -> str:
    """What Python runs as a worker."""
    forked = settings.fork_workers
    if forked is None:
        local = max((host.slots for host in placement.hosts), default=placement.processes)
        forked = sys.platform == "linux" and local > _MANY * usable_cores()
    return "arignote.forkserver.stub" if forked else "arignote.worker"
