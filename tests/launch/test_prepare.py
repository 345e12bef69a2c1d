"""What starts workers: their command, and the variables that they get."""

from __future__ import annotations

import sys

import pytest

from arignote.config.load import resolve
from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch import placement
from arignote.launch.prepare import prepare
from arignote.launch.start import prepare_run


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(placement, "usable_cores", lambda: 4)


def test_what_workers_are_told(cores, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "99")
    launched = prepare(Launch(), ["py", "a b"])
    assert launched.argv == ["py", "a b"]
    assert launched.shell() == "py 'a b'"
    assert launched.environment["OMP_NUM_THREADS"] == "4"
    assert launched.environment["MKL_NUM_THREADS"] == "4"
    assert launched.environment["ARIGNOTE_WORKERS"] == "1"


def test_a_variable_to_forward_must_be_set(monkeypatch):
    monkeypatch.setenv("MY_KEY", "1")
    assert prepare(Launch(environment=["MY_KEY"]), ["py"]).environment["MY_KEY"] == "1"
    with pytest.raises(UserError, match=r"launch\.environment: 'MY_KYE' is not set here"):
        prepare(Launch(environment=["MY_KYE"]), ["py"])


def test_other_hosts_are_told_the_same(cores, monkeypatch, tmp_path):
    mpirun = tmp_path / "mpi" / "bin" / "mpirun"
    mpirun.parent.mkdir(parents=True)
    mpirun.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 5.0.11'\n")
    mpirun.chmod(0o755)
    (tmp_path / "mpi" / "lib").mkdir()
    library = tmp_path / "mpi" / "lib" / "libmpi.so.40"
    library.touch()
    monkeypatch.setenv("MY_KEY", "1")
    launched = prepare(
        Launch(workers=2, hosts=["a", "b"], mpirun=str(mpirun), environment=["MY_KEY"]), ["py"]
    )
    assert launched.environment["MPI4PY_LIBMPI"] == str(library)
    forwarded = {b for a, b in zip(launched.argv, launched.argv[1:], strict=False) if a == "-x"}
    assert {"MY_KEY", "PATH", "MPI4PY_LIBMPI", "ARIGNOTE_WORKERS", "OMP_NUM_THREADS"} <= forwarded


def test_the_command_of_a_worker(tmp_path):
    made = resolve([("", {"run": {"model": "digits-mlp"}})])
    command = prepare_run(made, tmp_path, resume=False).argv
    assert command == [sys.executable, "-m", "arignote.worker", str(tmp_path)]
    assert prepare_run(made, tmp_path, resume=True).argv == [*command, "--resume"]
