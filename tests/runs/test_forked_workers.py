"""Workers that are forked from one process: they are workers like others, however they end."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from arignote.recorder.events import read_events

FORKED = ("--set", "launch.fork_workers=true", "--set", "launch.threads=1")


@pytest.fixture
def running(cli: Any, wait_until: Any, reached: Any) -> Iterator[tuple[Any, list[psutil.Process]]]:
    """A long run that has come to step 5, and its two workers."""
    length = ("--epochs", "100000", "--set", "recorder.every_seconds=0.05")
    process = cli.start("train", "digits-mlp", "-n", "2", *FORKED, *length, "--out", "run")
    with process:
        try:
            wait_until(
                lambda: process.poll() is not None or reached(cli.folder / "run", 5), 60, "step 5"
            )
            assert process.poll() is None, process.communicate()
            events = read_events(cli.folder / "run")
            peers = next(event["peers"] for event in events if event["event"] == "start")
            yield process, [psutil.Process(peer["pid"]) for peer in peers]
        finally:
            process.kill()


def test_they_train_to_the_same_weights(mpi_cli: Any, train: Any, summary_of: Any) -> None:
    # Under MPICH, whose PMI is an open file of each process, they are ordinary ones.
    more = ("--steps", "2", "--exchange", "asa:fp32", "--out", "run")
    ended = mpi_cli("train", "digits-mlp", "-n", "2", *FORKED, *more)
    assert ended.err == ""
    alike = train(2, {"train.steps": 2, "run.exchange": "asa:fp32"}, folder="threads")
    assert summary_of(mpi_cli.folder / "run")["weights_sha256"] == alike.sha


def test_they_save_when_told_to_stop(running: Any, cli: Any, summary_of: Any) -> None:
    process, workers = running
    (server,) = {worker.ppid() for worker in workers}
    assert "arignote.forkserver.server" in psutil.Process(server).cmdline()
    process.send_signal(signal.SIGTERM)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + signal.SIGTERM
    steps = summary_of(cli.folder / "run")["steps"]
    assert f"stopped by SIGTERM, saved at step {steps}" in err


@pytest.mark.parametrize("victim", ["worker", "stub", "server"])
def test_one_that_is_killed_ends_the_run(running: Any, victim: str) -> None:
    process, workers = running
    family = psutil.Process(process.pid).children(recursive=True)
    stubs = [one for one in family if one.cmdline()[2:3] == ["arignote.forkserver.stub"]]
    (stub,) = (one for one in stubs if one.environ()["OMPI_COMM_WORLD_RANK"] == "1")
    pids = {"worker": workers[1].pid, "stub": stub.pid, "server": workers[1].ppid()}
    os.kill(pids[victim], signal.SIGKILL)
    err = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    (line,) = err.strip().splitlines()
    # With the server go all that it has forked.
    rank = r"\d" if victim == "server" else "1"
    assert re.match(rf"arignote: error: worker {rank} \(host .*, pid \d+\) was killed by SIG", line)
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.parametrize("fork", ["true", "false"])
def test_what_the_users_code_leaves_open_is_written(cli: Any, fork: str) -> None:
    """Files that nobody closes: of a module, and of a model that is part of a cycle."""
    (cli.folder / "mine.py").write_text(
        "import os\n"
        "from torch import nn\n"
        "from arignote import Model\n"
        "LOG = open(f'module.{os.getpid()}', 'w')\n"
        "class Mine(Model):\n"
        "    defaults = {'run.data': 'digits'}\n"
        "    def build(self):\n"
        "        self.log = open(f'cycle.{os.getpid()}', 'w')\n"
        "        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "        net.register_forward_hook(self.note)\n"
        "        return net\n"
        "    def note(self, *_):\n"
        "        self.log.write('a line\\n')\n"
        "        LOG.write('a line\\n')\n"
    )
    more = ("--set", f"launch.fork_workers={fork}", "--steps", "3", "--out", "run")
    cli("train", "mine.py:Mine", "-n", "2", *more)
    written = [*cli.folder.glob("module.*"), *cli.folder.glob("cycle.*")]
    assert len(written) == 4
    assert all(path.read_text().count("a line\n") >= 3 for path in written)
