"""Helpers for tests that start real runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arignote.recorder.events import read_events


@pytest.fixture
def summary_of() -> Callable[[Path], dict[str, Any]]:
    """The summary of a run's folder."""

    def read(folder: Path) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
        return summary

    return read


@pytest.fixture
def reached() -> Callable[[Path, int], bool]:
    """Whether a run has come to a step."""

    def check(folder: Path, step: int) -> bool:
        if not (folder / "events.jsonl").exists():
            return False
        return any(e.get("step", -1) >= step for e in read_events(folder) if e["event"] == "step")

    return check
