"""Workers join and leave runs of real processes while they go on."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arignote.launch.resize import TAKEN
from arignote.recorder.events import read_events

NET = '''
import os
import time
from pathlib import Path

from torch import nn

from arignote import Model
from arignote.data.digits import Digits

HERE = Path(__file__).parent


class Noted(Digits):
    def train_batch(self, indices, *, seed, epoch):
        self.now = epoch, indices
        return super().train_batch(indices, seed=seed, epoch=epoch)


class Net(Model):
    """Notes which samples it is trained on; slow at the end, until it is told to go."""

    defaults = {"train.epochs": 3, "train.batch_size": 16, "run.exchange": "asa"}

    def data(self):
        return Noted(augment="none")

    def build(self):
        if (HERE / f"not-with-{self.settings.launch.workers}").exists():
            raise RuntimeError("too many")
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def loss(self, batch):
        if self.module.training:
            epoch, indices = self.dataset.now
            with (HERE / f"notes-{os.getpid()}").open("a") as notes:
                notes.writelines(f"{epoch} {index}\\n" for index in indices[: len(batch.targets)])
            if not (HERE / "go").exists():
                time.sleep(1 if epoch == 2 else 0.02)
        return nn.functional.cross_entropy(self.module(batch.inputs), batch.targets)
'''


@pytest.fixture
def start(cli: Any, wait_until: Any) -> Iterator[Callable[..., Any]]:
    """Start a run of the net above, which has begun to train when this returns."""
    started = []

    def run(*more: str) -> Any:
        (cli.folder / "net.py").write_text(NET)
        process = cli.start("train", "net.py:Net", "--out", "run", *more)
        started.append(process)
        begun = lambda: process.poll() is not None or of_kind(cli.folder, "begin")  # noqa: E731
        wait_until(begun, 200, "the beginning")
        assert process.poll() is None, process.communicate()
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def resize(cli: Any, workers: int, *, code: int = 0) -> Any:
    """Ask for so many workers, and wait for what comes of it."""
    patient = ("--timeout", "200")
    return cli("resize", "run", "-n", str(workers), *patient, code=code, timeout=220)


def of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "run") if event["event"] == kind]


def trained_on(folder: Path) -> Counter[str]:
    """How often each (epoch, sample) was."""
    lines = [line for notes in folder.glob("notes-*") for line in notes.read_text().splitlines()]
    return Counter(lines)


def test_two_three_one(
    cli: Any, start: Any, summary_of: Any, worker_processes: Any, train: Any
) -> None:
    process = start("-n", "2")
    for before, workers, now in ((2, 3, "3 workers"), (3, 1, "1 worker")):
        said = resize(cli, workers).out
        assert re.fullmatch(rf"run: {before} -> {now} at step \d+, paused for \d+\.\d s\n", said)
    (cli.folder / "go").touch()
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert "resize: 2 -> 3 workers at step " in out
    assert "3 workers instead of 2; global batch 48 instead of 32" in out
    assert worker_processes() == []
    summary = summary_of(cli.folder / "run")
    assert (summary["status"], summary["workers"], summary["epochs"]) == ("finished", 1, 3)
    resizes = [(e["before"], e["workers"], e["problem"]) for e in of_kind(cli.folder, "resize")]
    assert resizes == [(2, 3, ""), (3, 1, "")]
    samples = of_kind(cli.folder, "begin")[0]["train_size"]
    noted = trained_on(cli.folder)
    assert set(noted.values()) == {1}
    assert len(noted) == 3 * samples == summary["samples"]
    # By hand: stopped at the same steps, and resumed with as many workers.
    settings: dict[str, Any] = {"run.model": f"{cli.folder}/net.py:Net"}
    first, second = (event["step"] for event in of_kind(cli.folder, "resume"))
    train(2, settings | {"train.steps": first}, folder="hand")
    train(3, settings | {"train.steps": second}, folder="hand", resume=True)
    assert train(1, settings, folder="hand", resume=True).sha == summary["weights_sha256"]


def test_a_worker_killed_after_it_joined(cli: Any, start: Any, worker_processes: Any) -> None:
    process = start("-n", "1", "--rule", "easgd:period=4")
    resize(cli, 2)
    victim = of_kind(cli.folder, "start")[-1]["peers"][1]
    os.kill(victim["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    wanted = f"worker 1 (host {victim['host']}, pid {victim['pid']}) was killed by SIGKILL"
    assert wanted in err.strip().splitlines()[-1]
    assert "go on with: arignote train --resume run" in err
    assert worker_processes() == []


def test_a_start_that_fails_and_a_stop_meanwhile(
    cli: Any, start: Any, wait_until: Any, worker_processes: Any
) -> None:
    process = start("-n", "1")
    assert "was not resized: it has 1 worker already" in resize(cli, 1, code=2).err
    (cli.folder / "not-with-2").touch()
    why = "2 workers did not come to train: RuntimeError: too many"
    said = resize(cli, 2, code=1).err
    assert f"run was not resized: {why}; it goes on with 1 worker, paused for " in said
    assert [e["problem"] for e in of_kind(cli.folder, "resize")] == ["", why]
    resizing = cli.start("resize", "run", "-n", "3")
    wait_until((cli.folder / "run" / TAKEN).exists, 120, "the request is taken")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in err
    assert f"resize: {why}; back to 1 worker" in out
    assert "run was not resized: the run " in resizing.communicate(timeout=120)[1]
    assert resizing.returncode == 1
    assert worker_processes() == []
