"""Tests that need a GPU: `scripts/test-gpu` runs them; elsewhere they are skipped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arignote import accelerator

PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture(autouse=True, scope="session")
def a_gpu() -> None:
    """Skip, and say why, where there is none."""
    problem = accelerator.why_none()
    if problem:
        pytest.skip(f"no GPU here: {problem}")


@pytest.fixture(scope="session")
def job(a_gpu: None) -> Callable[[int, str], dict[str, Any]]:
    """job(workers, program): what rank 0 of that many workers printed; each runs once."""
    known: dict[tuple[int, str], dict[str, Any]] = {}

    def run(workers: int, program: str) -> dict[str, Any]:
        if (workers, program) not in known:
            command = [sys.executable, "-m", "arignote", "run", "-n", str(workers)]
            command += [str(PROGRAMS / program), "cuda"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=220, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
            assert lines, (
                f"exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            )
            known[workers, program] = json.loads(lines[0].removeprefix("RESULT "))
        return known[workers, program]

    return run
