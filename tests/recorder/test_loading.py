"""What a run says about the loading of its data."""

from __future__ import annotations

import re
from typing import Any

import pytest

from arignote.recorder.summary import Loading


def worker(**changes: Any) -> dict[str, Any]:
    """One worker that waited 2 of 10 seconds, with a loader that was busy for 20."""
    seconds = {"read": 1.0, "decode": 16.0, "augment": 1.0, "copy": 2.0}
    facts = {"loaders": 1, "restarts": 0, "seconds": seconds, "steps": 100}
    return {**facts, "wait_seconds": 2.0, "step_seconds": 10.0, **changes}


def test_of_all_workers() -> None:
    assert Loading.of([None, None]) is None
    loading = Loading.of([worker(restarts=1), worker(wait_seconds=4.0), worker(restarts=2)])
    assert loading is not None
    assert (loading.workers, loading.restarts, loading.steps) == (3, 3, 100)
    assert loading.seconds["decode"] == 48.0
    assert loading.wait_seconds == pytest.approx(8 / 3)
    assert loading.step_seconds == 10.0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        # 20 s of loading in the 8 s in which the worker does not wait.
        ({}, "waiting for data took 20% of the steps; 80% of the loading is decode; --loaders 3"),
        (
            {"loaders": 0, "seconds": {"read": 2.0}},
            "100% of the loading is read; --loaders 1",
        ),
        ({"loaders": 3}, "decode; more loaders alone do not help"),
        ({"wait_seconds": 0.4}, "$"),
        ({"steps": 10_000}, "$"),
        ({"seconds": {"read": 0.0}}, "$"),
        ({"step_seconds": 0.0, "wait_seconds": 0.0}, "$"),
    ],
)
def test_advice(changes: dict[str, Any], line: str) -> None:
    loading = Loading.of([worker(**changes)] * 2)
    assert loading is not None
    assert re.search(f"^{line}" if line == "$" else line, loading.advice())
