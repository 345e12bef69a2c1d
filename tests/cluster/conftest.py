"""A user before a Slurm: tests here run inside `scripts/slurmlab`, and are skipped elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arignote.recorder.events import read_events

TESTS = Path(__file__).parents[1]
LAB = "SLURMLAB"
"""Set by scripts/slurmlab: how many nodes there are."""
MPICH = Path(sys.prefix) / "mpich" / "bin" / "mpiexec"
RUN_SECONDS = 400
"""For one run from its start to its end, also where the machine has much else to do."""

NET = """\
import os, time
from arignote.models.digits import DigitsMLP

class Net(DigitsMLP):
    defaults = {"run.data": "digits", "train.batch_size": 32, "run.exchange": "asa"}

    def loss(self, batch):
        time.sleep(float(os.environ.get("STEP_SECONDS", "0")))
        return super().loss(batch)
"""


class User:
    """Types commands in a folder, on the host that one logs in to."""

    def __init__(self, folder: Path, mpi: str = "openmpi") -> None:
        self.folder = folder
        (folder / "net.py").write_text(NET)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ARIGNOTE_")}
        before = self.environment.get("PYTHONPATH", "")
        lean = os.pathsep.join(filter(None, [str(TESTS / "lean"), before]))
        self.environment |= {"ARIGNOTE_TEST": str(os.getpid()), "PYTHONPATH": lean}
        if mpi == "mpich":
            self.environment["ARIGNOTE_MPIRUN"] = str(MPICH)

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command to its end; what it prints."""
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"still running after {RUN_SECONDS} s: {error.output}") from None
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def arignote(self, *words: str, within: str = "", code: int = 0) -> str:
        """`arignote ...`, `within` salloc with such options where they are given."""
        before = ["salloc", *within.split()] if within else []
        return self.run(*before, sys.executable, "-m", "arignote", *words, code=code)

    def wait_for_job(self, job: str, seconds: float) -> str:
        """Wait until a job has left the queue for good; what it printed."""
        deadline = time.monotonic() + seconds
        while self.state(job):
            assert time.monotonic() < deadline, f"job {job}: {self.output(job)}"
            time.sleep(1)
        return self.output(job)

    def state(self, job: str) -> str:
        """What squeue says of a job: RUNNING, PENDING, ..., or nothing once it is over."""
        return self.run("squeue", "--noheader", "--job", job, "--format=%T").strip()

    def output(self, job: str) -> str:
        """What a job has printed so far."""
        file = self.folder / f"slurm-{job}.out"
        return file.read_text() if file.exists() else ""

    def summary(self, run: str) -> dict[str, Any]:
        """Of the run in this folder."""
        found: dict[str, Any] = json.loads((self.folder / run / "summary.json").read_text())
        return found

    def starts(self, run: str) -> list[list[str]]:
        """On which hosts its workers were, each time that they started."""
        return [[peer["host"] for peer in start] for start in self.peers(run)]

    def peers(self, run: str) -> list[list[dict[str, Any]]]:
        """Its workers and servers, each time that they started."""
        events = read_events(self.folder / run)
        return [event["peers"] for event in events if event["event"] == "start"]


@pytest.fixture(scope="session", autouse=True)
def lab() -> int:
    """How many nodes there are; without a Slurm of our own the test is skipped."""
    if LAB not in os.environ:
        pytest.skip("there is no Slurm here: run scripts/slurmlab -- tests/cluster, as root")
    return int(os.environ[LAB])


@pytest.fixture
def user(lab: int, tmp_path: Path) -> User:
    """A user in an empty folder, with Open MPI's wheel."""
    return User(tmp_path)


@pytest.fixture
def mpich_user(lab: int, tmp_path: Path) -> User:
    """The same with MPICH's."""
    if not MPICH.exists():
        pytest.skip("no MPICH beside this Python: `make setup` installs one")
    return User(tmp_path, "mpich")


@pytest.fixture(scope="session")
def undisturbed(lab: int, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], str]:
    """undisturbed(workers, steps): weights_sha256 of a run on the host that one logs in to."""
    known: dict[tuple[int, int], str] = {}

    def sha(workers: int, steps: int) -> str:
        if (workers, steps) not in known:
            user = User(tmp_path_factory.mktemp("undisturbed"))
            count = ["-n", str(workers), "--steps", str(steps)]
            user.arignote("train", "net.py:Net", *count, "--out", "run")
            known[workers, steps] = user.summary("run")["weights_sha256"]
        return known[workers, steps]

    return sha
