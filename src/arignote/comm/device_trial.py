"""The process that may crash: `python -m arignote.comm.device_trial DEVICE`.

A world of one sends a vector on DEVICE to itself, and adds it up alone: MPI touches the memory as
it would among several. Prints `TRIAL` and what went wrong, in JSON; nothing: "".
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from arignote import accelerator
from arignote.comm.buffers import as_array
from arignote.comm.device_buffers import TRIAL
from arignote.orphan import die_with_parent

_ELEMENTS = (7, 1 << 20)
"""One that MPIs send at once, and one for which sender and receiver make an appointment."""


def problem_with(device: torch.device, mpi: Any) -> str:
    """What goes wrong with memory of `device`; empty: nothing."""
    size = mpi.COMM_WORLD.Get_size()
    if size != 1:
        return f"it joined a world of {size} instead of one of its own"
    for elements in _ELEMENTS:
        sent = torch.arange(elements, dtype=torch.float32, device=device)
        arrived, total = torch.zeros_like(sent), torch.zeros_like(sent)
        if accelerator.is_one(device):
            accelerator.settle(device)
        mpi.COMM_SELF.Sendrecv(as_array(sent), 0, 0, as_array(arrived), 0, 0)
        mpi.COMM_SELF.Allreduce(as_array(sent), as_array(total))
        if not (torch.equal(arrived, sent) and torch.equal(total, sent)):
            return f"of {elements} numbers others came back than were sent"
    return ""


def main() -> None:
    """Try it, and say what came of it."""
    die_with_parent()
    from mpi4py import MPI

    try:
        problem = problem_with(torch.device(sys.argv[1]), MPI)
    except (MPI.Exception, RuntimeError, TypeError) as error:
        problem = str(error).splitlines()[0]
    print(TRIAL + json.dumps(problem), flush=True)  # noqa: T201 (it is what the parent reads)


if __name__ == "__main__":
    main()
