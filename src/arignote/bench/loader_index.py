"""`python -m arignote.bench.loader_index FOLDER`: opens a set of shards in a fresh process.

The set is of ImageNet's size, and has the files that it would have, of their lengths: but they
are sparse, for nothing in them is read when they are opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np

from arignote.bench.loader_request import STORED_SIZE
from arignote.bench.program import run_program
from arignote.config.spec import parse_spec
from arignote.data.shard_index import INDEX, LabelFile, ShardFile, ShardIndex, SplitIndex
from arignote.data.shards import Shards

TRAIN_IMAGES, VALIDATION_IMAGES = 1_281_167, 50_000
_CLASSES = 1000
_SHARD_BYTES = 2**28
_SMALL_SIZE = 8
"""Pixels a side where a file system knows no holes: 256 MB in all."""


def write_index(folder: Path) -> ShardIndex:
    """Write a set whose images are all zeros."""
    folder.mkdir()
    try:
        return _write(folder, STORED_SIZE)
    except OSError:
        return _write(folder, _SMALL_SIZE)


def _write(folder: Path, size: int) -> ShardIndex:
    splits = {
        split: _write_split(folder, split, images, size)
        for split, images in (("train", TRAIN_IMAGES), ("validation", VALIDATION_IMAGES))
    }
    index = ShardIndex(
        size=size,
        seed=0,
        source=_digest("source"),
        classes=tuple(f"class{number:08d}" for number in range(_CLASSES)),
        mean=(124.0, 117.0, 104.0),
        deviation=(59.0, 58.0, 58.0),
        train=splits["train"],
        validation=splits["validation"],
        skipped=(),
    )
    (folder / INDEX).write_text(json.dumps(index.model_dump(), indent=1))
    return index


def _write_split(folder: Path, split: str, images: int, size: int) -> SplitIndex:
    # As many files as of the usual size, whatever the size of an image.
    most = _SHARD_BYTES // (STORED_SIZE * STORED_SIZE * 3)
    shards = []
    for number, first in enumerate(range(0, images, most)):
        name, count = f"{split}-{number:05d}.bin", min(most, images - first)
        with (folder / name).open("wb") as file:
            os.truncate(file.fileno(), count * size * size * 3)
        shards.append(ShardFile(file=name, images=count, sha256=_digest(name)))
    labels = LabelFile(file=f"{split}-labels.npy", sha256=_digest(split))
    np.save(folder / labels.file, (np.arange(images) % _CLASSES).astype(np.int32))
    return SplitIndex(shards=tuple(shards), labels=labels)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def opened(folder: str) -> dict[str, float]:
    """Open it as training does: `seconds`, and `bytes` by which this process grew at the most."""
    before = _memory_bytes("VmRSS")
    begun = time.perf_counter()
    Shards.open(parse_spec(f"shards:{folder}"), augment="crop+mirror")
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "bytes": _memory_bytes("VmHWM") - before}


def _memory_bytes(name: str) -> int:
    """`VmRSS`: what is resident now; `VmHWM`: the most that ever was."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kib) * 1024


if __name__ == "__main__":
    run_program(opened)
