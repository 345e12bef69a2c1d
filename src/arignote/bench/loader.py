"""`python -m arignote.bench.loader REQUEST`: how fast loaders are, ours beside PyTorch's.

One process and its loaders, on this host, without MPI. The images are prepared first; then three
things are measured: batches, in turns (`loader_race`), the first batch and memory of fresh
processes (`loader_starts`), and a large index.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import features

from arignote.bench.loader_plan import Plan
from arignote.bench.loader_request import STORED_SIZE, LoaderRequest
from arignote.bench.loader_rows import ImagesRow
from arignote.bench.loader_starts import first_batches, large_index
from arignote.bench.machine import machine_facts
from arignote.bench.program import run_program
from arignote.bench.rows import REPORT_PREFIX, Measured, Report
from arignote.data.prepare.run import Options, prepare


class _Quiet:
    """Who is told how a preparation goes, and does not care."""

    def begin(self, images: int, done: int) -> None:
        """See `Watcher`."""

    def decoded(self, images: int) -> None:
        """See `Watcher`."""

    def shard(self, name: str) -> None:
        """See `Watcher`."""


def main(text: str) -> None:
    """Measure all, and print the report."""
    load = os.getloadavg()[0]
    request = LoaderRequest(**json.loads(text))
    rows = tuple(measure(request))
    report = Report({**machine_facts(load), **_decoders()}, "", rows)
    sys.stdout.write(f"{REPORT_PREFIX}{report.text()}\n")


def measure(request: LoaderRequest) -> Iterator[Measured]:
    """All rows, one after the other."""
    say("preparing shards")
    plan = _ready(request)
    yield ImagesRow(
        images=plan.images,
        made=request.made,
        file_bytes=sum(path.stat().st_size for path in plan.folder.glob("train/*/*")),
        shard_bytes=plan.images * plan.index.image_bytes,
        size=request.size,
    )
    # Not before: processes that decode import this module too, and they need no torch.
    from arignote.bench.loader_race import race

    yield from race(plan, say)
    say(f"first batches, {plan.starts} fresh processes each")
    yield from first_batches(plan)
    say("a large index")
    yield large_index(plan)


def say(text: str) -> None:
    """A line for those who wait."""
    sys.stderr.write(f"arignote: {text}\n")
    sys.stderr.flush()


def _ready(request: LoaderRequest) -> Plan:
    """Shards of the images; files that hold none are removed, so that all load the same."""
    folder, cores = Path(request.folder), len(os.sched_getaffinity(0))
    options = Options(size=STORED_SIZE, workers=cores, skip_bad=True)
    index = prepare(folder / "images", folder / "shards", options, _Quiet())
    for name in index.skipped:
        bad = folder / "images" / name
        bad.unlink()
        if not any(bad.parent.iterdir()):
            bad.parent.rmdir()
    return Plan(request, index)


def _decoders() -> dict[str, Any]:
    turbo = features.version("libjpeg_turbo")
    jpeg = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version('jpg')}"
    return {"pillow": version("pillow"), "jpeg": jpeg}


if __name__ == "__main__":
    run_program(main)
