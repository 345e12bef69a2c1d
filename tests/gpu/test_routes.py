"""All routes that apply, by 1, 2, 4 and 8 workers on this host's GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from arignote import accelerator

ORDERED = ("shm:fp32", "asa:fp32", "hier:fp32", "ipc:fp32")
"""They add in the order of the ranks: a CPU's bits."""
WORKERS = (1, 2, 4, 8)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("way", [*ORDERED, "allreduce:fp32", "nccl:fp32", "asa:fp16"])
def test_the_sums_of_a_cpu(job: Any, workers: int, way: str) -> None:
    found = job(workers, "routes.py")[way]
    if way == "nccl:fp32" and accelerator.count() < workers:
        assert "two workers on one GPU" in found["refused"]
        return
    assert "refused" not in found, found
    assert found["same"]
    assert found["error"] < (0.01 if way == "asa:fp16" else 1e-5)
    if way in ORDERED or (workers <= 2 and way != "asa:fp16"):
        assert found["exact"]


@pytest.mark.parametrize("workers", WORKERS[1:])
def test_what_it_says_of_the_way(job: Any, workers: int) -> None:
    found = job(workers, "routes.py")
    assert "by way of pinned host memory" in found["asa:fp32"]["memory"]
    assert "where they are" in found["ipc:fp32"]["memory"]
    # Whichever it is: tried, and told with its reason.
    assert found["library"] in found["allreduce:fp32"]["memory"]


@pytest.mark.parametrize("workers", WORKERS[1:])
def test_memory_on_the_device(job: Any, workers: int) -> None:
    """Staging takes none; ipc adds up block by block. (The vectors of three sizes are there.)"""
    found = job(workers, "routes.py")
    for way in ("shm:fp32", "asa:fp32", "hier:fp32"):
        assert found[way]["peak_vectors"] < 1.5
    assert found["ipc:fp32"]["peak_vectors"] < 4
