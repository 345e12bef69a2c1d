"""`arignote train` inside an allocation: what starts the workers, where they are, which bits."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import pytest

STEPS = 6
TRAIN = ("train", "net.py:Net", "--steps", str(STEPS), "--out", "run")
BY_MPIRUN = ("--set", "launch.launcher=mpirun")
TWO, UNEVEN = "-N 2 -n 2", "-N 2 -n 3"

pytestmark = pytest.mark.timeout(1200)


def started_by(user: Any, within: str, *more: str) -> str:
    """The name of the launcher, and its --mpi."""
    shown = user.arignote("train", "net.py:Net", "--dry-run", *more, within=within)
    (line,) = (x for x in shown.splitlines() if "arignote.worker" in x)
    pmi = [word for word in line.split() if word.startswith("--mpi=")]
    return " ".join([os.path.basename(line.split()[0]), *pmi])  # noqa: PTH119


def test_two_workers_by_srun_are_two_workers(user: Any, undisturbed: Any) -> None:
    assert started_by(user, TWO) == "srun --mpi=pmix"
    user.arignote(*TRAIN, within=TWO)
    assert user.starts("run") == [["h1", "h2"]]
    assert user.summary("run")["weights_sha256"] == undisturbed(2, STEPS)


def test_nodes_with_different_numbers_of_tasks(user: Any, undisturbed: Any) -> None:
    user.arignote(*TRAIN, within=UNEVEN)
    assert user.starts("run") == [["h1", "h1", "h2"]]
    assert user.summary("run")["weights_sha256"] == undisturbed(3, STEPS)


def test_mpirun_takes_the_hosts_of_the_allocation(user: Any, undisturbed: Any) -> None:
    assert started_by(user, UNEVEN, *BY_MPIRUN) == "mpirun"
    user.arignote(*TRAIN, *BY_MPIRUN, within=UNEVEN)
    assert user.starts("run") == [["h1", "h1", "h2"]]
    assert user.summary("run")["weights_sha256"] == undisturbed(3, STEPS)


def test_nodes_with_a_number_of_tasks_each(user: Any) -> None:
    shown = user.arignote(
        *("train", "net.py:Net", "--dry-run", *BY_MPIRUN), within="-N 2 --ntasks-per-node=2"
    )
    assert " -n 4 " in shown
    assert " --host h1:2,h2:2 " in shown


@pytest.mark.parametrize("by", [(), BY_MPIRUN])
def test_a_server_takes_one_of_the_tasks(user: Any, by: tuple[str, ...]) -> None:
    user.arignote(*TRAIN, *by, "--rule", "easgd", "--servers", "1", within=UNEVEN)
    (start,) = user.peers("run")
    assert [(p["host"], p.get("kind")) for p in start] == [
        *[("h1", "worker")] * 2,
        ("h2", "server"),
    ]
    assert user.summary("run")["status"] == "finished"


def test_a_heterogeneous_job_is_refused(user: Any) -> None:
    said = user.arignote(*TRAIN, within="-n 1 : -n 2", code=2)
    assert re.search(
        r"error: Slurm job \d+ is heterogeneous \(2 parts\), and a run takes one", said
    )
    assert not (user.folder / "run").exists()


def test_mpich_by_srun(mpich_user: Any, undisturbed: Any) -> None:
    assert started_by(mpich_user, UNEVEN) == "srun --mpi=pmi2"
    mpich_user.arignote(*TRAIN, within=UNEVEN)
    assert mpich_user.starts("run") == [["h1", "h1", "h2"]]
    assert mpich_user.summary("run")["weights_sha256"] == undisturbed(3, STEPS)


def test_mpich_by_mpiexec(mpich_user: Any, undisturbed: Any) -> None:
    mpich_user.arignote(*TRAIN, *BY_MPIRUN, within=UNEVEN)
    assert mpich_user.starts("run") == [["h1", "h1", "h2"]]
    assert mpich_user.summary("run")["weights_sha256"] == undisturbed(3, STEPS)


def test_one_worker_is_on_the_node_and_not_where_one_logs_in(user: Any) -> None:
    user.arignote(*TRAIN, within="-n 1")
    assert user.starts("run") == [["h1"]]


def test_more_workers_than_tasks_are_refused(user: Any) -> None:
    said = user.arignote(*TRAIN, "-n", "3", within=TWO, code=2)
    assert "arignote: error: 3 workers but Slurm job " in said
    assert "has 2 slots: use -n 2, or ask Slurm for more tasks\n" in said
    assert not (user.folder / "run").exists()


def test_several_launchers_by_srun_are_refused(user: Any) -> None:
    said = user.run("srun", "-n", "2", sys.executable, "-m", "arignote", *TRAIN, code=2)
    assert said.count("arignote: error: srun has started this command 2 times: leave out srun") == 2
    assert not (user.folder / "run").exists()
