"""One worker's step of `arignote train` over that of a plain loop, in single steps by turns.

    python benchmarks/plain_loop.py imagefolder:DIR

For a difference of a per cent: `arignote bench step` changes after three steps only, and a
machine's speed has changed then. Both loops are its own; several processes say more than one.
"""

from __future__ import annotations

import sys
import time
from statistics import median

import torch

from arignote.bench.step import Shop
from arignote.comm.crew import form_crew
from arignote.comm.serial import SerialWorld
from arignote.config.load import nest, resolve
from arignote.config.model_source import find_model

MODEL, PAIRS = "cifar10-cnn", 160


def ratio(data: str) -> float:
    """The median over PAIRS of steps, of which the first is in turn ours and the other's."""
    named = {"run": {"model": MODEL, "data": data}, "loading": {"loaders": 0}}
    settings = resolve([("the model", nest(find_model(MODEL).defaults, "")), ("", named)])
    shop = Shop(settings, form_crew(SerialWorld(), 0))
    shop.ours.step()
    calls = {"ours": shop.ours.step, "plain": shop.plain()[1].step}
    found: list[float] = []
    for pair in range(PAIRS):
        seconds = {}
        for name in sorted(calls, reverse=bool(pair % 2)):
            begun = time.perf_counter()
            calls[name]()
            seconds[name] = time.perf_counter() - begun
        found.append(seconds["ours"] / seconds["plain"])
    return median(found)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.stdout.write(f"{ratio(sys.argv[1]):.4f}\n")
