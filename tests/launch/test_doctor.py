"""`arignote doctor`: what it finds here, and its advice for machines that others have."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from arignote.errors import UserError
from arignote.launch import doctor
from arignote.launch.find import NO_MPI, Found, find_launcher
from arignote.launch.flavours.direct import Direct
from arignote.launch.hostcheck.reach import Shell, ask_hosts


@pytest.fixture(autouse=True)
def nothing_of_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


def test_this_machine():
    diagnosis = doctor.examine()
    facts = diagnosis.facts
    assert {"python", "host", "cores", "memory", "shared memory", "MPI", "torch"} <= set(facts)
    assert sys.executable in facts["python"]
    assert int(facts["cores"]) >= 1
    assert facts["torch"] != "does not load"
    assert facts["devices"]
    assert re.match(
        r"\d+ sockets?, \d+ NUMA nodes?, \d+ cores? \(CPUs [\d,-]+\)$", facts["topology"]
    )
    try:
        find_launcher(doctor.Launch(workers=2))
    except UserError:
        assert facts["MPI"] == "none"
        assert NO_MPI in diagnosis.advice
        return
    assert facts["MPI"] not in ("none", "does not run")
    assert re.match(r"worker 0 on CPUs [\d,-]+", facts["binding"])
    assert {"launcher", "thread level", "ULFM", "CUDA-aware MPI"} <= set(facts)
    assert not any("world of" in advice for advice in diagnosis.advice)


@pytest.fixture
def probes(monkeypatch):
    """Answer the probes without starting anything."""
    mpi = {
        "size": 2,
        "library": "MPI 1",
        "thread level": "multiple",
        "ULFM": "no",
        "CUDA-aware MPI": "no",
    }
    answers = SimpleNamespace(
        mpi=(mpi, ""), torch=({"torch": "2.9", "gpus": [], "problem": ""}, "")
    )

    def probe(argv, environment):
        return answers.torch if "import json, torch" in argv[-1] else answers.mpi

    monkeypatch.setattr(doctor, "_probe", probe)
    monkeypatch.setattr(
        doctor, "find_launcher", lambda settings: Found("/mpi/mpirun", Direct(), "MPI 1", "")
    )
    monkeypatch.setattr(
        doctor, "prepare", lambda settings, command: SimpleNamespace(argv=command, environment={})
    )
    monkeypatch.setattr(
        doctor.psutil,
        "virtual_memory",
        lambda: SimpleNamespace(available=8 * 2**30, total=9 * 2**30),
    )
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**33))
    return answers


def gpu(number, free=70.0):
    device = f"cuda:{number}"
    return {"device": device, "name": "H100", "address": "", "free_gib": free, "gib": 80.0}


def test_a_good_machine_has_no_advice(probes):
    diagnosis = doctor.examine()
    assert diagnosis.advice == []
    assert diagnosis.facts["launcher"] == "MPI 1 (/mpi/mpirun)"
    assert diagnosis.facts["MPI"] == "MPI 1"
    assert diagnosis.facts["devices"] == "cpu"
    assert diagnosis.facts["memory"] == "8.0 of 9.0 GiB free"
    assert "Slurm" not in diagnosis.facts


def test_no_mpi(probes, monkeypatch):
    def none(settings):
        raise UserError(NO_MPI)

    monkeypatch.setattr(doctor, "find_launcher", none)
    diagnosis = doctor.examine()
    assert diagnosis.facts["MPI"] == "none"
    assert diagnosis.advice == [NO_MPI]


def test_an_mpi_that_does_not_run(probes):
    probes.mpi = (None, "segmentation fault")
    diagnosis = doctor.examine()
    assert diagnosis.facts["MPI"] == "does not run"
    assert diagnosis.advice == ["2 processes under /mpi/mpirun failed: segmentation fault"]


def test_a_world_of_one(probes):
    probes.mpi[0]["size"] = 1
    [advice] = doctor.examine().advice
    assert advice.startswith("2 processes under /mpi/mpirun formed a world of 1: mpi4py loads")


def test_an_allocation_with_room_for_one(probes, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n1")
    monkeypatch.setenv("SLURM_TASKS_PER_NODE", "1")
    probes.mpi[0]["size"] = 1
    assert doctor.examine().advice == []


def test_no_thread_multiple(probes):
    probes.mpi[0]["thread level"] = "single"
    [advice] = doctor.examine().advice
    assert advice.startswith("this MPI has no THREAD_MULTIPLE")


def test_no_torch(probes):
    probes.torch = (None, "No module named 'torch'")
    diagnosis = doctor.examine()
    assert diagnosis.facts["torch"] == "does not load"
    assert diagnosis.advice == ["torch does not load: No module named 'torch'"]


def test_gpus_without_a_cuda_aware_mpi(probes):
    probes.torch = ({"torch": "2.9", "gpus": [gpu(0), gpu(1)], "problem": ""}, "")
    diagnosis = doctor.examine()
    assert diagnosis.facts["devices"] == "cuda:0 H100, cuda:1 H100"
    assert diagnosis.advice == [
        "this MPI is not CUDA-aware: vectors on GPUs go through host memory"
    ]
    # What examine() took out, it must find again.
    probes.mpi[0].update({"size": 2, "library": "MPI 1", "CUDA-aware MPI": "yes"})
    assert doctor.examine().advice == []


def test_a_driver_that_is_too_old(probes):
    problem = "the driver knows CUDA 12.2 at most and torch is built for 13.0: update the driver"
    probes.torch = ({"torch": "2.11", "gpus": [], "problem": problem}, "")
    assert doctor.examine().advice == [f"the GPUs here cannot be used: {problem}"]


def test_a_gpu_that_is_full(probes):
    probes.mpi[0]["CUDA-aware MPI"] = "yes"
    probes.torch = ({"torch": "2.9", "gpus": [gpu(0), gpu(1, free=None)], "problem": ""}, "")
    assert doctor.examine().advice == [
        "cuda:1 is full, no worker can begin there: end what uses it (nvidia-smi)"
    ]


def test_little_memory(probes, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    monkeypatch.setattr(
        doctor.psutil, "virtual_memory", lambda: SimpleNamespace(available=2**30, total=2**33)
    )
    advice = doctor.examine().advice
    assert advice[0].startswith("less than 1 GiB is free in /dev/shm")
    assert advice[1].startswith("less than 2 GiB of memory is free")


def test_slurm(probes, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    assert doctor.examine().facts["Slurm"] == "job 12 on n[1-2]"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('x'); print('PROBE {\"a\": 1}')", ({"a": 1}, "")),
        ("import sys; sys.exit(3)", (None, "exit code 3")),
        (
            "import sys; print('one\\nlast\\n-----\\n', file=sys.stderr); sys.exit(3)",
            (None, "last"),
        ),
        ("import os; os.kill(os.getpid(), 11)", (None, "exit code -11")),
    ],
)
def test_a_probe(code, expected):
    assert doctor._probe([sys.executable, "-c", code], {}) == expected


def test_a_probe_that_does_not_end_is_told_without_its_program(monkeypatch):
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 0.1)
    found = doctor._probe([sys.executable, "-c", "import time; time.sleep(60)"], {})
    assert found == (None, "no end within 0.1 s: end other programs, and try again")


def test_a_probe_that_cannot_be_started():
    facts, problem = doctor._probe(["/no/such/program"], {})
    assert facts is None
    assert "No such file" in problem


def test_what_is_sent_to_a_host_runs(monkeypatch, tmp_path):
    # As a host would run it that has nothing of ours, in a folder that it does not have.
    monkeypatch.chdir(tmp_path)
    variables = {"PYTHONPATH": str(tmp_path / "nothing"), "GREETING": "it's \n"}
    shell = Shell(("ssh",))
    facts = ask_hosts(["localhost"], shell, variables, 60.0, otherwise="wait")["localhost"]
    assert not isinstance(facts, str), facts
    assert facts.executable == sys.executable
    assert facts.mpi or facts.mpi_problem
