"""Which PMI a Slurm has, as sruns say that stand for it."""

from __future__ import annotations

import pytest

from arignote.errors import UserError
from arignote.launch.pmi import usable_pmi

OF_22_05 = (
    "MPI plugin types are...\n\tpmix\n\tnone\n\tcray_shasta\n\tpmi2\n"
    "specific pmix plugin versions available: pmix_v4\n"
)
OF_17 = "srun: MPI types are...\nsrun: none\nsrun: pmi2\nsrun: openmpi\n"
ONLY_NUMBERED = "MPI plugin types are...\n\tnone\n\tpmix_v3\n\tpmix_v4\n"
NOT_LOADED = (
    "srun: error:  mpi/pmix_v4: init: (null) [0]: mpi_pmix.c:195: pmi/pmix: can not load PMIx "
    "library\nsrun: error: MPI: Unable to load any plugin\n"
    "srun: error: Invalid MPI type 'pmix', --mpi=list for acceptable types\n"
)


@pytest.fixture
def srun(tmp_path):
    """srun(what it lists, what it says when asked to use one of them)."""

    def make(lists, says=""):
        (tmp_path / "list").write_text(lists)
        (tmp_path / "says").write_text(says)
        path = tmp_path / "srun"
        path.write_text(
            f'#!/bin/sh\n[ "$1" = --mpi=list ] && exec cat {tmp_path}/list\n'
            f"cat {tmp_path}/says >&2\nexit 1\n"
        )
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize(
    ("lists", "wanted", "name"),
    [
        (OF_22_05, "pmix", "pmix"),
        (OF_22_05, "pmi2", "pmi2"),
        (OF_17, "pmi2", "pmi2"),
        (ONLY_NUMBERED, "pmix", "pmix_v4"),
    ],
)
def test_it_is_found(srun, lists, wanted, name):
    # That the test fails for another reason (here: no job may run) says nothing about the PMI.
    assert usable_pmi(srun(lists, "srun: error: Unable to allocate resources"), wanted) == name


def test_it_is_not_there(srun):
    message = r"Slurm has no pmix, by which .* \(srun --mpi=list has: pmi2\): use --set launch\.lau"
    with pytest.raises(UserError, match=message):
        usable_pmi(srun(OF_17), "pmix")
    with pytest.raises(UserError, match=r"Slurm has no pmi2, .* has: none\)"):
        usable_pmi(srun("none\n"), "pmi2")


def test_it_is_listed_but_does_not_load(srun):
    message = r"Slurm's pmix, .*does not load here \(can not load PMIx library\): use --set launch"
    with pytest.raises(UserError, match=message):
        usable_pmi(srun(OF_22_05, NOT_LOADED), "pmix")


def test_no_answer(tmp_path):
    with pytest.raises(UserError, match=r"srun --mpi=list failed \(.*No such file.*\): use --set"):
        usable_pmi(str(tmp_path / "srun"), "pmix")
