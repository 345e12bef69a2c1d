"""What the tests share that stop and kill runs: a long one, and its end."""

from __future__ import annotations

import time
from typing import Any

LONG = (
    *("--data", "synthetic:3x16x16,10,train=4000,validation=64", "--batch-size", "16"),
    *("--set", "recorder.every_seconds=0.05", "--set", "checkpoint.every_steps=20"),
)


def start(cli: Any, wait_until: Any, reached: Any, workers: int, *more: str) -> Any:
    """A long run that has come to step 25."""
    command = ("train", "cifar10-cnn", "-n", str(workers), *LONG, "--out", "run", *more)
    process = cli.start(*command)
    try:
        wait_until(
            lambda: process.poll() is not None or reached(cli.folder / "run", 25), 60, "step 25"
        )
    except BaseException:
        process.kill()
        raise
    assert process.poll() is None, process.communicate()
    return process


def finish(process: Any, seconds: float) -> str:
    """Its stderr, once it has ended within `seconds`."""
    begun = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < seconds
    return str(err)
