"""What the worker programs of all benches have in common: joining, reporting, leaving."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch

from arignote import failure
from arignote.bench.machine import machine_facts
from arignote.bench.rows import REPORT_PREFIX, Measured, Report
from arignote.comm.base import World
from arignote.comm.crew import Crew
from arignote.comm.open import open_crew
from arignote.config.load import resolve
from arignote.config.settings import Settings
from arignote.orphan import die_with_parent


def serve(settings: dict[str, Any], bench: Callable[[Settings, Crew], Iterable[Measured]]) -> None:
    """Run `bench` as one worker or server; rank 0 prints the report.

    A failure ends the process.
    """
    die_with_parent()
    rank = 0
    try:
        resolved = resolve([("", settings)])
        crew = open_crew(resolved.launch.start_timeout_seconds)
        rank = crew.whole.rank
        for world in (crew.whole, crew.workers):
            world.timeout_seconds = resolved.train.timeout_seconds
        if "OMP_NUM_THREADS" in os.environ:
            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        load = os.getloadavg()[0]
        rows = tuple(bench(resolved, crew))
        if rank == 0:
            report = Report(_machine(crew, load), "", rows)
            sys.stdout.write(f"{REPORT_PREFIX}{report.text()}\n")
            sys.stdout.flush()
        crew.whole.close()
        # Of what was imported: it would take most of a second. No user's code is here.
        gc.freeze()
    except BaseException as error:
        failure.leave(error, rank)


def progress(world: World, text: str) -> None:
    """A line for those who wait, from one worker."""
    if world.rank == 0:
        sys.stderr.write(f"arignote: {text}\n")
        sys.stderr.flush()


def _machine(crew: Crew, load: float) -> dict[str, Any]:
    world = crew.workers
    return {
        **machine_facts(load),
        "servers": crew.servers,
        "hosts": len({peer.host for peer in world.peers}),
        "threads_per_worker": torch.get_num_threads(),
        "mpi": world.library,
    }
