"""Steps on a GPU: an exchange beside backward changes no bit, and phases add up."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize("workers", [2, 4])
def test_overlap_and_routes_give_the_same_bits(job: Any, workers: int) -> None:
    found = job(workers, "training.py")
    assert [name for name, one in found.items() if "refused" in one] == []
    assert len({one["sha256"] for one in found.values()}) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_phases_add_up(job: Any, workers: int) -> None:
    for name, one in job(workers, "training.py").items():
        total = sum(one["seconds"].values())
        assert 0 < total <= 1.05 * one["wall"], name
        assert one["seconds"]["calc"] > 0, name
