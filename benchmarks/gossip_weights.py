"""How uneven gosgd's weights become by its pushes alone: how many equal workers weigh as much.

A push halves the sender's weight and adds that half to a random other's; steps of a worker
count as much as its weight. 1 / sum_i w_i^2 is n where all weigh the same, 1 where one has all.

python benchmarks/gossip_weights.py
"""

from __future__ import annotations

import sys

import numpy as np

PUSHES = 200_000


def equal_workers(workers: int, generator: np.random.Generator) -> float:
    """Mean over many pushes of 1 / sum_i w_i^2, beginning with 1/n each."""
    weights = np.full(workers, 1 / workers)
    total = 0.0
    for _ in range(PUSHES):
        sender, step = generator.integers(workers), generator.integers(1, workers)
        weights[sender] /= 2
        weights[(sender + step) % workers] += weights[sender]
        total += 1 / float((weights**2).sum())
    return total / PUSHES


if __name__ == "__main__":
    for count in (2, 4, 8, 16):
        equal = equal_workers(count, np.random.default_rng(0))
        sys.stdout.write(f"{count:2} workers: as {equal:.2f} equal ones\n")
