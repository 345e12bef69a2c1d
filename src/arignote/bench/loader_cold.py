"""`python -m arignote.bench.loader_cold JSON`: a worker that begins to load, in a fresh process.

It has imported torch and all it needs, as a worker has that is about to train; nothing of what
loads has begun. Prints the seconds until its first batch, and what its loaders need later on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from arignote.bench.loader_entrants import Draw, OurLoaders, TorchLoaders
from arignote.bench.loader_plan import Plan, Source
from arignote.bench.loader_request import LoaderRequest
from arignote.bench.program import run_program
from arignote.data.shard_index import read_index

_SHARED_BATCHES = ("/memfd:", "/dev/shm/")
"""What batches lie in is called: our arena's memory, torch's tensors."""


def main(text: str) -> dict[str, Any]:
    """What is told: `seconds`, and if it was asked for `memory`."""
    given = json.loads(text)
    request = LoaderRequest(**given["request"])
    plan = Plan(request, read_index(Path(request.folder, "shards")))
    loaders = max(request.loaders)
    # So many that there is always one to make.
    count = 4 * loaders + 4 if given["memory"] else 2 * loaders + 2
    batches = Draw(plan.images, request.batch_size).batches(count)
    begun = time.perf_counter()
    entrant: OurLoaders | TorchLoaders
    if given["source"] is None:
        entrant = TorchLoaders(plan.folder, request.size, plan.known, loaders=loaders)
        entrant.begin(batches)
        entrant.one()
    else:
        source = Source(**given["source"])
        entrant = OurLoaders("ours", source, loaders=loaders, batch_size=request.batch_size)
        entrant.one(batches)
    result: dict[str, Any] = {"seconds": time.perf_counter() - begun}
    if given["memory"]:
        for place in range(1, count):
            if isinstance(entrant, OurLoaders):
                entrant.one(batches[place:])
            else:
                entrant.one()
        ahead = entrant.ahead_bytes
        result["memory"] = {**family_memory([*_SHARED_BATCHES, str(plan.stored)]), "ahead": ahead}
    entrant.close()
    return result


def family_memory(left_out: Iterable[str]) -> dict[str, int]:
    """Bytes of the processes below this one: of the largest loader alone, and of all together.

    Loaders are the grandchildren, forked by a server. Of a page that n processes share, all
    count 1/n and a loader alone nothing.

    Args:
        left_out: how the names of mapped files begin that are not counted.
    """
    prefixes, this = tuple(left_out), psutil.Process()
    each, everything = 0, 0
    for process in this.children(recursive=True):
        maps = [m for m in process.memory_maps(grouped=False) if not m.path.startswith(prefixes)]
        everything += sum(m.pss for m in maps)
        if process.ppid() != this.pid:
            each = max(each, sum(m.private_clean + m.private_dirty for m in maps))
    return {"each": each, "all": everything}


if __name__ == "__main__":
    run_program(main)
