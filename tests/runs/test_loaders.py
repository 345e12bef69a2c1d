"""Loaders of real runs: killed, they change nothing; and nothing of them outlives a run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """40 and 8 pictures of two classes, as JPEG files."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 4)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                pixels = generator.integers(0, 256, (40, 40, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{place}.jpg")
    return f"imagefolder:{tmp_path / 'pictures'},size=32"


def servers(worker_processes: Any) -> list[psutil.Process]:
    """Of the loaders of each worker."""
    children = [child for process in worker_processes() for child in process.children()]
    return [child for child in children if "arignote.loading.server" in child.cmdline()]


def start(cli: Any, wait_until: Any, reached: Any, *command: str) -> Any:
    """A run that has come to its third step."""
    process = cli.start(*command, "--out", "run", "--set", "recorder.every_seconds=0.01")
    try:
        wait_until(
            lambda: process.poll() is not None or reached(cli.folder / "run", 3), 60, "step 3"
        )
    except BaseException:
        process.kill()
        raise
    assert process.poll() is None, process.communicate()
    return process


def test_a_killed_loader_changes_nothing(
    cli: Any, pictures: str, wait_until: Any, reached: Any, worker_processes: Any, summary_of: Any
) -> None:
    command = (
        *("train", "cifar10-cnn", "-n", "2", "--data", pictures, "--batch-size", "4"),
        *("--steps", "100", "--epochs", "50"),
        *("--set", "train.validate_every_epochs=0", "--set", "checkpoint.every_epochs=0"),
    )
    cli(*command, "--loaders", "0", "--out", "alone")
    process = start(cli, wait_until, reached, *command, "--loaders", "2")
    victims = [server.children()[0] for server in servers(worker_processes)]
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    alone, run = (summary_of(cli.folder / name) for name in ("alone", "run"))
    assert run["weights_sha256"] == alone["weights_sha256"]
    assert run["loading"]["restarts"] == len(victims) == 2
    assert f"(pid {victims[0].pid}) was ended by signal 9: another makes its samples" in out + err


def test_a_run_that_is_killed_leaves_nothing(
    cli: Any, pictures: str, wait_until: Any, reached: Any, worker_processes: Any
) -> None:
    shared = Path("/dev/shm")
    before = set(shared.iterdir())
    command = ("train", "cifar10-cnn", "--data", pictures, "--loaders", "2", "--epochs", "10000")
    process = start(cli, wait_until, reached, *command)
    (server,) = servers(worker_processes)
    family = [server, *server.children()]
    assert len(family) == 3
    os.kill(server.ppid(), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode
    wait_until(lambda: not any(p.is_running() for p in family), 10, "the loaders are gone")
    # MPI's own segments are not ours to delete.
    of_mpi = ("sm_segment.", "mpich_shm_", "vader_segment.")
    left = {path.name for path in set(shared.iterdir()) - before}
    assert {name for name in left if not name.startswith(of_mpi)} == set()


def test_a_bad_picture_is_named(cli: Any, pictures: str) -> None:
    folder = Path(pictures.removeprefix("imagefolder:").partition(",")[0])
    (folder / "train/dog/7.jpg").write_bytes(b"none")
    ended = cli("train", "cifar10-cnn", "--data", pictures, "--epochs", "1", code=2)
    assert "arignote: error: " in ended.err
    assert "train/dog/7.jpg is no JPEG or PNG image" in ended.err
    assert "Traceback" not in ended.err
