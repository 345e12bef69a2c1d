"""`python -m arignote.bench.loader_core JSON`: a loader alone on one core.

It does what a loader of ours does to a batch, in one thread and into shared memory, but for the
last stage: images stay bytes (N, H, W, 3), so what is timed is reading or decoding, window and
mirror. There is no consumer, and no message but the orders: a line of JSON with the samples of
some batches, answered by the seconds that they took.
"""

from __future__ import annotations

import json
import os
import sys
import time

import numpy as np

from arignote.bench.loader_request import CORE_BATCHES
from arignote.bench.program import run_program
from arignote.config.spec import parse_spec
from arignote.data.encoded import decode_alone
from arignote.data.images import ImageDataset
from arignote.loading.arena import Arena
from arignote.registry import DATA


def main(text: str) -> None:
    """Follow orders until stdin ends."""
    given = json.loads(text)
    os.sched_setaffinity(0, {given["core"]})
    decode_alone()
    source, samples = given["source"], given["batch_size"]
    spec = parse_spec(source["spec"])
    kind: type[ImageDataset] = DATA.load(spec.name)
    dataset = kind.open_again(spec, augment=source["augment"], known=source["known"])
    assert isinstance(dataset, ImageDataset)
    channels, height, width = dataset.sample_shape
    shape = (CORE_BATCHES, samples, height, width, channels)
    arena = Arena(int(np.prod(shape)))
    out = np.frombuffer(arena.memory, np.uint8, int(np.prod(shape))).reshape(shape)
    for epoch, line in enumerate(sys.stdin):
        batches = [np.array(indices, np.int64) for indices in json.loads(line)]
        begun = time.perf_counter()
        for number, indices in enumerate(batches):
            dataset.load_images("train", indices, out[number % CORE_BATCHES], epoch=epoch)
        sys.stdout.write(f"{time.perf_counter() - begun}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    run_program(main)
