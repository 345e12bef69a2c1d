"""What `scripts/slurmlab` refuses; what runs inside of it is tested in tests/cluster."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurmlab"


@pytest.fixture(scope="module")
def slurmlab():
    """The script, as a module."""
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("slurmlab", str(SCRIPT))
    spec = importlib.util.spec_from_loader("slurmlab", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    sys.dont_write_bytecode = before
    return module


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "no COMMAND: expected slurmlab [--nodes N] -- COMMAND..."),
        ("--nodes 2 srun hostname", "unrecognized arguments: srun hostname (see slurmlab --help)"),
        ("--nodes 0 -- true", "--nodes is '0': expected a number from 1 to 16"),
        ("--nodes 17 -- true", "--nodes is '17': expected a number from 1 to 16"),
        ("--cpus x -- true", "--cpus is 'x': expected a number from 1 to 99"),
    ],
)
def test_a_mistake_is_told_in_one_line(slurmlab, line, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["slurmlab", *line.split()])
    assert slurmlab.main() == 2
    assert capsys.readouterr() == ("", f"slurmlab: {message}\n")


def test_only_root(slurmlab, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(slurmlab.SlurmlabError, match="only root may start a Slurm of its own"):
        slurmlab.check_machine(install=False)


def test_what_is_missing_is_named_with_what_installs_it(slurmlab, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    files = {"munge": "/none/munged", "here": str(SCRIPT), "slurmd": "/none/slurmd"}
    monkeypatch.setattr(slurmlab, "_PACKAGES", files)
    message = (
        r"not installed: munge, slurmd: run it with --install, or apt-get install "
        r"--no-install-recommends munge slurmd$"
    )
    with pytest.raises(slurmlab.SlurmlabError, match=message):
        slurmlab.check_machine(install=False)


def test_an_installation_that_fails(slurmlab, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(slurmlab, "_PACKAGES", {"munge": "/none/munged"})
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slurmlab.SlurmlabError, match=r"apt-get cannot be run \(No such file"):
        slurmlab.check_machine(install=True)
    (tmp_path / "apt-get").write_text('#!/bin/sh\n[ "$1" = update ]\n')
    (tmp_path / "apt-get").chmod(0o755)
    message = r"`apt-get install --yes --no-install-recommends munge` failed: see above"
    with pytest.raises(slurmlab.SlurmlabError, match=message):
        slurmlab.check_machine(install=True)


def test_a_path_is_what_pytest_is_run_on(slurmlab, tmp_path):
    assert slurmlab.command_of(["sh", "-c", "x"]) == ["sh", "-c", "x"]
    words = slurmlab.command_of([f"{tmp_path}::test", "-x"])
    assert words[1:] == ["-m", "pytest", f"{tmp_path}::test", "-x"]
    with pytest.raises(slurmlab.SlurmlabError, match="no program and no path 'nothing-like-it'"):
        slurmlab.command_of(["nothing-like-it"])


def test_a_slurm_that_does_not_start_says_why(slurmlab, tmp_path):
    (tmp_path / "slurmctld.log").write_text("[x] fine\n[x] error: no such plugin\n")
    assert slurmlab._last_errors(tmp_path) == "slurmctld: [x] error: no such plugin"
    (tmp_path / "slurmctld.log").write_text("[x] fine\n")
    assert slurmlab._last_errors(tmp_path) == "its logs say no reason"


def test_a_daemon_that_ends_ends_the_start(slurmlab, tmp_path, monkeypatch):
    for name in ("munged", "slurmctld", "ssh", "sinfo"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'error: of no use'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_CONF", "")
    # The stand-in for sinfo prints words, of which each counts as a node.
    with pytest.raises(slurmlab.SlurmlabError, match=r"Slurm did not start \(.* ended\): .*of no"):
        slurmlab.start_slurm(tmp_path, 9, "4")
