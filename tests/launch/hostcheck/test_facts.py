"""What a host tells of itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from arignote.launch.hostcheck import facts
from arignote.launch.hostcheck.report import HostFacts


@pytest.fixture
def outputs(monkeypatch):
    """What the children print, by the program's name: (stdout, why it failed)."""
    found = {"python": ("MPICH Version:      5.0\n", ""), "nvidia-smi": ("", "not found")}

    def output(command):
        return found["nvidia-smi" if command[0] == "nvidia-smi" else "python"]

    monkeypatch.setattr(facts, "_output", output)
    return found


def test_all_of_it(outputs):
    found = HostFacts(**facts.gather(["localhost", "nohost.invalid"]))
    assert found.executable == sys.executable
    assert found.packages["arignote"]
    assert found.code
    assert len(found.code) == 12
    assert (found.mpi, found.mpi_problem, found.devices) == ("MPICH Version: 5.0", "", [])
    assert found.cores >= 1
    assert 0 < found.free_memory_gib <= found.memory_gib
    assert "127.0.0.1" in found.interfaces["lo"]
    assert found.ways == {"localhost": "lo", "nohost.invalid": None}


def test_what_is_missing(outputs, monkeypatch):
    def missing(path):
        raise OSError

    outputs["python"] = ("", "no libmpi")
    monkeypatch.setattr(facts, "_PACKAGES", ("no-such-package",))
    monkeypatch.setattr(facts.os, "statvfs", missing)
    found = HostFacts(**facts.gather([]))
    assert found.packages == {"no-such-package": None}
    assert (found.mpi, found.mpi_problem) == (None, "no libmpi")
    assert found.free_shared_memory_gib is None
    assert facts._code("no_such_package") is None


def test_a_child_that_does_not_end_is_told_without_its_program(monkeypatch):
    monkeypatch.setattr(facts, "_CHILD_SECONDS", 0.1)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert facts._output(command) == ("", "no end within 0.1 s")


def test_gpus(outputs):
    outputs["nvidia-smi"] = ("NVIDIA H100, 80000, 81920\nNVIDIA A100 MIG, [N/A], [N/A]\n", "")
    assert facts._devices() == [
        {"name": "NVIDIA H100", "free_gib": 78.1, "gib": 80.0},
        {"name": "NVIDIA A100 MIG", "free_gib": 0.0, "gib": 0.0},
    ]


def test_cores_are_counted_as_a_run_counts_them(tmp_path, monkeypatch):
    for cpu in range(8):
        topology = tmp_path / f"cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    monkeypatch.setattr(facts, "_CPUS", tmp_path)
    monkeypatch.setattr(facts.os, "sched_getaffinity", lambda _: {0, 1, 4, 5})
    assert facts._cores() == 2
    # A kernel that does not say.
    monkeypatch.setattr(facts, "_CPUS", tmp_path / "none")
    assert facts._cores() == 4


def test_it_can_run_where_there_is_nothing_but_an_old_python():
    tree = ast.parse(Path(facts.__file__).read_text(), feature_version=(3, 8))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_the_hash_follows_every_change(tmp_path, monkeypatch):
    package = tmp_path / "mine"
    package.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    found = set()
    for content in ("a = 1", "a = 2"):
        (package / "__init__.py").write_text(content)
        found.add(facts._code("mine"))
    (package / "other.py").write_text("")
    found.add(facts._code("mine"))
    (package / "notes.txt").write_text("no code")
    found.add(facts._code("mine"))
    assert len(found) == 3
