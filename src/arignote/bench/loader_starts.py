"""Fresh processes of `bench loader`, in turns: the first batch, memory, a large index. No torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from arignote.bench.loader_index import write_index
from arignote.bench.loader_plan import Plan, Source
from arignote.bench.loader_rows import FirstRow, IndexRow, MemoryRow
from arignote.bench.rows import Measured, median_and_spread
from arignote.errors import ArignoteError


def first_batches(plan: Plan) -> Iterator[Measured]:
    """Of the most loaders: time to the first batch, and memory at work."""
    request = plan.request
    sources: dict[str, Source | None] = {
        "shards": plan.shards,
        "imagefolder": plan.imagefolder,
        "imagefolder, own mean": replace(plan.imagefolder, known=None),
    }
    if "torch" in request.peers:
        sources["torch"] = None
    seconds: dict[str, list[float]] = {name: [] for name in sources}
    memory: dict[str, dict[str, int]] = {}
    for number in range(plan.starts):
        for name, source in sources.items():
            # Once is enough: it does not depend on what else the machine does.
            asked = number == 0 and (source is None or source.known is not None)
            given = {
                "request": asdict(request),
                "source": source and asdict(source),
                "memory": asked,
            }
            found = _run("loader_cold", json.dumps(given))
            seconds[name].append(found["seconds"])
            if asked:
                memory[name] = found["memory"]
    loaders = max(request.loaders)
    for name, times in seconds.items():
        yield FirstRow(name, loaders, request.batch_size, *median_and_spread(times))
    for name, of in memory.items():
        yield MemoryRow(name, loaders, request.batch_size, of["each"], of["all"], of["ahead"])


def large_index(plan: Plan) -> IndexRow:
    """A set of ImageNet's size is opened."""
    folder = Path(plan.request.folder, "index")
    index = write_index(folder)
    found = [_run("loader_index", str(folder)) for _ in range(plan.starts)]
    median, spread = median_and_spread([each["seconds"] for each in found])
    return IndexRow(
        images=index.train.images + index.validation.images,
        shards=len(index.train.shards) + len(index.validation.shards),
        median_seconds=median,
        spread=spread,
        resident_bytes=max(int(each["bytes"]) for each in found),
    )


def _run(program: str, argument: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"arignote.bench.{program}", argument]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ArignoteError(f"{program} ended with code {done.returncode}: it said why above")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
