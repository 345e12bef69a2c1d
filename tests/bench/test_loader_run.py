"""`arignote bench loader` with real processes. Nothing here depends on the clock."""

from __future__ import annotations

import json
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from PIL import Image

SMALL = ("--images", "6", "--size", "16", "--batch-size", "4", "--seconds", "0.05")
PROGRAMS = tuple(f"arignote.bench.{name}" for name in ("loader", "loader_core", "loader_cold"))


@pytest.fixture
def temporary(cli: Any) -> Iterator[Path]:
    """The folder for temporary ones. Its path is short: sockets are made there."""
    with TemporaryDirectory(prefix="bench-") as folder:
        cli.environment["TMPDIR"] = folder
        yield Path(folder)


def test_all_rows(cli: Any, temporary: Path) -> None:
    folder = temporary
    with tarfile.open(cli.folder / "images.tar", "w") as tar:
        for number in range(8):
            path = cli.folder / f"n{number % 3}_{number}.JPEG"
            Image.effect_noise((40, 30), 50).convert("RGB").save(path)
            if number == 4:
                path.write_bytes(path.read_bytes()[:200])
            tar.add(path, path.name)
    source = ("--data", "images.tar", "--class-from-name")
    ended = cli("bench", "loader", *SMALL, *source, "--loaders", "1", "--json", timeout=200)
    report = json.loads(ended.out)
    assert report["machine"]["cores"] >= 1
    assert report["commit"]
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in report["rows"]:
        rows.setdefault(row["kind"], []).append(row)
    # One of the six that were taken is damaged.
    assert rows["images"][0]["images"] == 5
    assert rows["images"][0]["made"] is False
    one_core, ours = ["shards uint8", "imagefolder uint8"], ["shards float32", "imagefolder"]
    assert [row["name"] for row in rows["loader"]] == [*one_core, *ours, "torch"]
    for row in rows["loader"]:
        low, high = row["spread"]
        assert 0 < low <= row["median_seconds"] <= high
        assert row["images_per_second"] == 4 / row["median_seconds"]
        assert (row["loaders"], row["batch_size"]) == (1, 4)
    starts = ["shards", "imagefolder", "imagefolder, own mean", "torch"]
    assert [row["name"] for row in rows["first"]] == starts
    assert [row["name"] for row in rows["memory"]] == ["shards", "imagefolder", "torch"]
    for row in rows["memory"]:
        assert 10**6 < row["each_bytes"] <= row["all_bytes"]
        assert row["ahead_bytes"] >= 2 * 4 * 3 * 16 * 16 * 4
    (index,) = rows["index"]
    assert (index["images"], index["shards"]) == (1_331_167, 976)
    assert list(folder.iterdir()) == []


def test_nothing_stays_when_it_is_interrupted(
    cli: Any, temporary: Path, worker_processes: Any
) -> None:
    folder, before = temporary, semaphores()
    options = ("--images", "6", "--size", "16", "--batch-size", "4", "--seconds", "600")
    process = cli.start("bench", "loader", *options, "--loaders", "1")
    try:
        for line in process.stderr:
            # Its workers, and all of ours, are at work.
            if "torch, 1 loader: turns of" in line:
                break
        assert worker_processes(modules=PROGRAMS)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err.strip()) == (130, "", "")
    assert worker_processes(modules=(*PROGRAMS, "arignote.loading.server")) == []
    assert semaphores() <= before
    assert list(folder.iterdir()) == []


def semaphores() -> set[str]:
    return {path.name for path in Path("/dev/shm").glob("sem.mp-*")}
