"""Which launcher is found, on machines that fake programs stand for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch.find import NO_MPI, find_launcher
from arignote.launch.flavours.direct import Direct
from arignote.launch.flavours.mpich import MPICH, IntelMPI
from arignote.launch.flavours.openmpi import OpenMPI
from arignote.launch.flavours.slurm import Slurm

OPEN_MPI = "mpirun (Open MPI) 5.0.11\n\nReport bugs to https://www.open-mpi.org/community/help/"
HYDRA = "HYDRA build details:\n    Version:                                 5.0.2\n    CC: gcc"


class Machine:
    """A machine with nothing but the programs that a test puts there."""

    def __init__(self, root):
        self.bin = root / "bin"
        self.prefix = root / "prefix"
        for folder in (self.bin, self.prefix / "bin"):
            folder.mkdir(parents=True)

    def program(self, name, says, folder=None, code=0):
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Shell built-ins alone: PATH holds no cat.
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{says}'\nexit {code}\n")
        path.chmod(0o755)
        return str(path)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setattr(sys, "prefix", str(made.prefix))
    for name in ("SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS", "ARIGNOTE_MPIRUN"):
        monkeypatch.delenv(name, raising=False)
    return made


TWO = Launch(workers=2)


def test_one_worker_here_needs_none(machine):
    found = find_launcher(Launch(workers=1))
    assert isinstance(found.flavour, Direct)
    assert (found.program, found.library) == ("", "")


@pytest.mark.parametrize("more", [{"hosts": ["a:1"]}, {"hostfile": "hosts"}])
def test_one_worker_elsewhere_needs_one(machine, more):
    with pytest.raises(UserError, match="no MPI found"):
        find_launcher(Launch(workers=1, **more))


def test_no_mpi(machine):
    with pytest.raises(UserError) as caught:
        find_launcher(TWO)
    assert str(caught.value) == NO_MPI
    assert "pip install 'arignote[mpi]'" in NO_MPI


@pytest.mark.parametrize(
    ("says", "flavour", "version"),
    [
        ("mpirun (Open MPI) 4.1.4", OpenMPI, "mpirun (Open MPI) 4.1.4"),
        (OPEN_MPI, OpenMPI, "mpirun (Open MPI) 5.0.11"),
        ("mpirun (OpenRTE) 4.0.0", OpenMPI, "mpirun (OpenRTE) 4.0.0"),
        (HYDRA, MPICH, "HYDRA 5.0.2"),
        (
            "Intel(R) MPI Library for Linux* OS, Version 2021.9 Build 20230307",
            IntelMPI,
            "Intel(R) MPI Library for Linux* OS, Version 2021.9 Build 20230307",
        ),
    ],
)
@pytest.mark.parametrize("name", ["mpirun", "mpiexec"])
def test_flavours(machine, says, flavour, version, name):
    program = machine.program(name, says)
    found = find_launcher(TWO)
    assert type(found.flavour) is flavour
    assert (found.program, found.version) == (program, version)


def test_an_unknown_one(machine):
    program = machine.program("mpirun", "LAM 7.1\nmore")
    with pytest.raises(UserError) as caught:
        find_launcher(TWO)
    assert str(caught.value) == (
        f"{program} is no MPI launcher that we know (Open MPI, MPICH, Intel MPI): it calls itself "
        "'LAM 7.1'; name another with --set launch.mpirun=PATH"
    )


def test_one_that_says_nothing(machine):
    machine.program("mpirun", "", code=1)
    with pytest.raises(UserError, match="it calls itself 'unknown'"):
        find_launcher(TWO)


def test_one_that_does_not_run(machine):
    path = Path(machine.program("mpirun", ""))
    path.write_text("#!/no/such/interpreter\n")
    with pytest.raises(UserError, match=r"mpirun --version failed: .*No such file"):
        find_launcher(TWO)


def test_beside_this_python_comes_before_path(machine):
    machine.program("mpirun", HYDRA)
    beside = machine.program("mpirun", OPEN_MPI, machine.prefix / "bin")
    assert find_launcher(TWO).program == beside


def test_mpirun_comes_before_mpiexec(machine):
    machine.program("mpiexec", HYDRA)
    mpirun = machine.program("mpirun", OPEN_MPI)
    assert find_launcher(TWO).program == mpirun


def test_the_setting_comes_before_the_variable(machine, monkeypatch, tmp_path):
    machine.program("mpirun", "mpirun (Open MPI) 4.1.4")
    one = machine.program("mpiexec", HYDRA, tmp_path / "one")
    two = machine.program("mpiexec.hydra", HYDRA)
    monkeypatch.setenv("ARIGNOTE_MPIRUN", one)
    assert find_launcher(TWO).program == one
    assert isinstance(find_launcher(TWO).flavour, MPICH)
    assert find_launcher(Launch(workers=2, mpirun="mpiexec.hydra")).program == two


def test_a_named_one_that_is_missing(machine, monkeypatch):
    machine.program("mpirun", OPEN_MPI)
    with pytest.raises(UserError, match=r"launch\.mpirun='mpirum' is no program here: give its"):
        find_launcher(Launch(workers=2, mpirun="mpirum"))
    monkeypatch.setenv("ARIGNOTE_MPIRUN", "/no/mpirun")
    with pytest.raises(UserError, match=r"launch\.mpirun='/no/mpirun' is no program here"):
        find_launcher(TWO)


@pytest.mark.parametrize("library", ["libmpi.so.40", "libmpi.so.12"])
def test_the_library_beside_it(machine, tmp_path, library):
    program = machine.program("mpirun", OPEN_MPI, tmp_path / "mpi" / "bin")
    settings = Launch(workers=2, mpirun=program)
    assert find_launcher(settings).library == ""
    lib = tmp_path / "mpi" / "lib"
    lib.mkdir()
    (lib / library).touch()
    assert find_launcher(settings).library == str(lib / library)


def test_mpi4py_finds_a_wheels_library_by_itself(machine):
    machine.program("mpirun", OPEN_MPI, machine.prefix / "bin")
    (machine.prefix / "lib").mkdir()
    (machine.prefix / "lib" / "libmpi.so.40").touch()
    assert find_launcher(TWO).library == ""


BOTH = "MPI plugin types are...\n\tnone\n\tpmix\n\tpmi2"


class TestSlurm:
    @pytest.fixture(autouse=True)
    def allocation(self, machine, monkeypatch):
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        monkeypatch.setenv("SLURMD_NODENAME", "n1")
        self.srun = machine.program("srun", BOTH)

    def test_without_an_mpirun(self, machine):
        found = find_launcher(TWO)
        assert isinstance(found.flavour, Slurm)
        assert (found.program, found.flavour.pmi) == (self.srun, "pmi2")
        assert found.version == "Slurm (pmi2)"

    @pytest.mark.parametrize("wheel", [True, False])
    @pytest.mark.parametrize(("says", "pmi"), [(OPEN_MPI, "pmix"), (HYDRA, "pmi2")])
    def test_the_pmi_is_that_of_the_mpi(self, machine, says, pmi, wheel):
        machine.program("mpirun", says, machine.prefix / "bin" if wheel else None)
        found = find_launcher(TWO)
        assert isinstance(found.flavour, Slurm)
        assert found.flavour.pmi == pmi

    def test_an_mpi_elsewhere_is_what_mpi4py_loads(self, machine, tmp_path):
        program = machine.program("mpiexec", HYDRA, tmp_path / "mpi" / "bin")
        library = tmp_path / "mpi" / "lib" / "libmpi.so.12"
        library.parent.mkdir()
        library.touch()
        found = find_launcher(Launch(workers=2, mpirun=program))
        assert isinstance(found.flavour, Slurm)
        assert found.library == str(library)

    def test_without_its_pmi_mpirun_starts_the_workers(self, machine):
        machine.program("srun", "MPI plugin types are...\n\tnone\n\tpmi2")
        mpirun = machine.program("mpirun", OPEN_MPI)
        found = find_launcher(TWO)
        assert isinstance(found.flavour, OpenMPI)
        assert found.program == mpirun

    def test_without_its_pmi_and_nothing_else_to_use(self, machine):
        machine.program("srun", "MPI plugin types are...\n\tnone")
        with pytest.raises(UserError, match=r"Slurm has no pmi2, .* has: none\): use --set"):
            find_launcher(TWO)
        machine.program("mpirun", OPEN_MPI)
        with pytest.raises(UserError, match=r"Slurm has no pmix, .* has: none\): use --set"):
            find_launcher(Launch(workers=2, launcher="srun"))

    def test_srun_and_mpirun_can_be_asked_for(self, machine):
        machine.program("mpirun", OPEN_MPI, machine.prefix / "bin")
        assert isinstance(find_launcher(Launch(workers=2, launcher="srun")).flavour, Slurm)
        machine.program("mpirun", HYDRA)
        assert isinstance(find_launcher(Launch(workers=2, launcher="mpirun")).flavour, OpenMPI)

    def test_one_worker_on_our_node_needs_none(self):
        assert isinstance(find_launcher(Launch(workers=1)).flavour, Direct)

    def test_one_worker_goes_to_a_node_of_ours(self, monkeypatch):
        monkeypatch.delenv("SLURMD_NODENAME")
        found = find_launcher(Launch(workers=1))
        assert isinstance(found.flavour, Slurm)
        assert (found.program, found.flavour.pmi, found.version) == (self.srun, "none", "Slurm")

    def test_not_from_within_srun(self, monkeypatch):
        monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
        with pytest.raises(UserError, match=r"srun has started this command 2 times: leave out"):
            find_launcher(TWO)


def test_srun_outside_an_allocation_is_left_alone(machine):
    machine.program("srun", "slurm 23.11")
    machine.program("mpirun", HYDRA)
    assert isinstance(find_launcher(TWO).flavour, MPICH)


def test_an_allocation_without_srun(machine, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    machine.program("mpirun", HYDRA)
    assert isinstance(find_launcher(TWO).flavour, MPICH)
    with pytest.raises(UserError, match=r"launch\.launcher='srun' but there is no srun on PATH"):
        find_launcher(Launch(workers=2, launcher="srun"))
