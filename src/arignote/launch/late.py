"""Which workers on this host keep the others from their first meeting, as far as it can be seen.

The bad story:
1. a worker is stopped (a debugger, a frozen container) before it has joined the world,
2. all others wait inside MPI's start, where nobody can be asked for a name,
3. minutes later the run ends, and nobody knows whom to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from arignote import control

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID")
"""What launchers call a process's rank in its environment."""


def latecomers(processes: Iterable[psutil.Process], folder: Path) -> list[str]:
    """A line for each rank among `processes` that is stopped, or has not begun to join.

    Args:
        folder: the control folder, where those who join leave a mark.
    """
    seen = list(_environments(processes))
    # Of mpirun inside a Slurm step: it has a rank in that step, and its workers have their own.
    variable = next((v for v in RANK_VARIABLES if any(v in e for _, e in seen)), "")
    ranks: dict[int, list[psutil.Process]] = {}
    stopped, joining = {}, set()
    for process, variables in seen:
        if variable not in variables:
            continue
        # A worker's own children inherit its rank: one of them all is enough.
        rank = int(variables[variable])
        ranks.setdefault(rank, []).append(process)
        with suppress(psutil.Error):
            if process.status() == psutil.STATUS_STOPPED:
                stopped[rank] = process.pid
        if (folder / control.joining(process.pid)).exists():
            joining.add(rank)
    return [
        f"worker {rank} (pid {stopped[rank]}) is stopped"
        if rank in stopped
        else f"worker {rank} (pid {ranks[rank][0].pid}) has not begun to join"
        for rank in sorted(ranks)
        if rank in stopped or rank not in joining
    ]


def _environments(
    processes: Iterable[psutil.Process],
) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    for process in processes:
        # It may end while we look.
        with suppress(psutil.Error):
            yield process, process.environ()
