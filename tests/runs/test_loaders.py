"""Loaders of real runs: killed, they change nothing; and nothing of them outlives a run."""

from __future__ import annotations

import json
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


def training(pictures: str, steps: int) -> tuple[str, ...]:
    return (
        *("train", "cifar10-cnn", "-n", "2", "--data", pictures, "--batch-size", "4"),
        *("--steps", str(steps), "--epochs", "50"),
        *("--set", "train.validate_every_epochs=0", "--set", "checkpoint.every_epochs=0"),
    )


def test_a_killed_loader_changes_nothing(
    cli: Any, pictures: str, wait_until: Any, reached: Any, worker_processes: Any, summary_of: Any
) -> None:
    command = training(pictures, 100)
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


def spawned(worker_processes: Any) -> list[psutil.Process]:
    """The servers whose keepers MPI has started."""
    keepers = worker_processes(frozenset(), ("arignote.loading.keeper",))
    return [keeper.children()[0] for keeper in keepers]


def test_a_server_that_mpi_started_and_a_loader_of_another_are_killed(
    mpi_cli: Any, pictures: str, wait_until: Any, reached: Any, worker_processes: Any
) -> None:
    """Neither MPI takes it for the end of the job."""
    command = (*training(pictures, 40), "--loaders", "2", "--set", "loading.start=mpi_spawn")
    process = start(mpi_cli, wait_until, reached, *command)
    first, second = spawned(worker_processes)
    for victim in (first, second.children()[0]):
        os.kill(victim.pid, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    summary = json.loads((mpi_cli.folder / "run" / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["loading"]["restarts"] == 3
    assert "the server of the loaders of worker" in out + err
    assert "another makes its samples" in out + err


def test_a_run_whose_loaders_mpi_started_is_killed(
    cli: Any, pictures: str, wait_until: Any, reached: Any, worker_processes: Any
) -> None:
    command = ("train", "cifar10-cnn", "-n", "2", "--data", pictures, "--loaders", "1")
    command = (*command, "--epochs", "10000", "--set", "loading.start=mpi_spawn")
    process = start(cli, wait_until, reached, *command)
    family = spawned(worker_processes)
    family += [relative for one in family for relative in (one.parent(), *one.children())]
    assert len(family) == 6
    os.kill(worker_processes()[-1].pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode
    wait_until(lambda: not any(p.is_running() for p in family), 10, "the loaders are gone")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            'launch.mpirun_arguments=["--mca","mpi_dynamics_enabled","0"]',
            "MPI does not start the server of the loaders of worker ",
        ),
        ("loading.timeout_seconds=1", "MPI has not started the server of the loaders of work"),
    ],
)
def test_an_mpi_that_does_not_start_loaders(cli: Any, setting: str, message: str) -> None:
    # By this the keeper is started: it comes, but late.
    slow = cli.folder / "slow" / "env"
    slow.parent.mkdir()
    slow.write_text('#!/bin/sh\nsleep 4\nexec /usr/bin/env "$@"\n')
    slow.chmod(0o755)
    cli.environment["PATH"] = f"{slow.parent}:{cli.environment['PATH']}"
    command = ("train", "digits-mlp", "-n", "2", "--data", "digits", "--loaders", "1")
    ended = cli(*command, "--set", "loading.start=mpi_spawn", "--set", setting, code=2)
    line = next(line for line in ended.err.splitlines() if message in line)
    assert "many clusters do not let MPI start processes" in line
    assert line.endswith("leave out loading.start, for it takes none")
    assert "Traceback" not in ended.err


def test_one_worker_has_no_mpi_to_start_loaders(cli: Any) -> None:
    command = ("train", "digits-mlp", "--data", "digits", "--set", "loading.start=mpi_spawn")
    ended = cli(*command, code=2)
    assert "loading.start='mpi_spawn' is for workers that MPI starts, and one worker" in ended.err


def test_a_bad_picture_is_named(cli: Any, pictures: str) -> None:
    folder = Path(pictures.removeprefix("imagefolder:").partition(",")[0])
    (folder / "train/dog/7.jpg").write_bytes(b"none")
    ended = cli("train", "cifar10-cnn", "--data", pictures, "--epochs", "1", code=2)
    assert "arignote: error: " in ended.err
    assert "train/dog/7.jpg is no JPEG or PNG image" in ended.err
    assert "Traceback" not in ended.err
