"""Who keeps the others from their first meeting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from arignote.control import joining
from arignote.launch.late import RANK_VARIABLES, latecomers

SLEEP = "import time; time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"


@pytest.fixture
def start():
    begun = []

    def one(rank, code=SLEEP, variable=RANK_VARIABLES[0]):
        environment = {k: v for k, v in os.environ.items() if k not in RANK_VARIABLES}
        if rank is not None:
            environment[variable] = str(rank)
        child = subprocess.Popen([sys.executable, "-c", code], env=environment)
        begun.append(child)
        process = psutil.Process(child.pid)
        # The kernel shows it a moment after Popen is back.
        while not process.environ():
            time.sleep(0.001)
        return process

    yield one
    for child in begun:
        if child.poll() is None:
            for process in [*psutil.Process(child.pid).children(recursive=True), child]:
                process.kill()
        child.wait()


@pytest.mark.parametrize("variable", RANK_VARIABLES)
def test_one_that_has_not_begun(start, tmp_path, variable):
    first, second = start(0, variable=variable), start(1, variable=variable)
    (tmp_path / joining(first.pid)).touch()
    assert latecomers([second, first], tmp_path) == [
        f"worker 1 (pid {second.pid}) has not begun to join"
    ]


def test_one_that_is_stopped_after_it_began(start, tmp_path):
    first, second = start(0), start(1)
    for process in (first, second):
        (tmp_path / joining(process.pid)).touch()
    assert latecomers([first, second], tmp_path) == []
    second.send_signal(signal.SIGSTOP)
    while second.status() != psutil.STATUS_STOPPED:
        time.sleep(0.01)
    assert latecomers([first, second], tmp_path) == [f"worker 1 (pid {second.pid}) is stopped"]


def test_children_of_workers_and_those_without_a_rank_do_not_count(start, tmp_path):
    worker, launcher = start(0, PARENT), start(None)
    (tmp_path / joining(worker.pid)).touch()
    while not worker.children():
        time.sleep(0.01)
    assert latecomers([launcher, worker, *worker.children()], tmp_path) == []


def test_mpirun_in_a_slurm_step_is_no_worker(start, tmp_path):
    mpirun, worker = start(0, variable="SLURM_PROCID"), start(0)
    assert latecomers([mpirun, worker], tmp_path) == [
        f"worker 0 (pid {worker.pid}) has not begun to join"
    ]


def test_one_that_has_ended_meanwhile(start, tmp_path):
    gone = start(0)
    gone.kill()
    while gone.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert latecomers([gone], tmp_path) == []
