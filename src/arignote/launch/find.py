"""Find the launcher: srun in a Slurm allocation whose PMI our MPI speaks, else mpirun (beside this
Python or on PATH)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch.allocation import refuse_inside_srun
from arignote.launch.flavours.base import Flavour
from arignote.launch.flavours.direct import Direct
from arignote.launch.flavours.mpich import MPICH, IntelMPI
from arignote.launch.flavours.openmpi import OpenMPI
from arignote.launch.flavours.slurm import Slurm
from arignote.launch.pmi import usable_pmi

NO_MPI = (
    "no MPI found (no mpirun or mpiexec beside this Python or on PATH): "
    "pip install 'arignote[mpi]', or load your site's module; one worker (-n 1) needs none"
)


@dataclass(frozen=True)
class Found:
    """A launcher on this machine."""

    program: str
    flavour: Flavour
    version: str
    library: str
    """The libmpi that belongs to it, for mpi4py; empty: mpi4py finds it by itself."""


def find_launcher(settings: Launch) -> Found:
    """The launcher that these settings mean.

    Raises:
        UserError: there is none, or it is none that we know.
    """
    refuse_inside_srun()
    alone = settings.workers == 1 and not settings.hosts and not settings.hostfile
    if alone and not _outside_our_nodes():
        return Found("", Direct(), "", "")
    mpirun = _mpirun(settings)
    asked = settings.launcher == "srun"
    if asked or (settings.launcher == "auto" and "SLURM_JOB_ID" in os.environ):
        found = _srun(mpirun, alone=alone, asked=asked)
        if found is not None:
            return found
    if mpirun is None:
        raise UserError(NO_MPI)
    version = _version(mpirun)
    return Found(mpirun, _flavour(mpirun, version), _title(version), _library(mpirun))


def _outside_our_nodes() -> bool:
    """Whether Slurm gave us nodes of which this host is none: salloc stays where it was typed."""
    return "SLURM_JOB_ID" in os.environ and "SLURMD_NODENAME" not in os.environ


def _srun(mpirun: str | None, *, alone: bool, asked: bool) -> Found | None:
    """srun with the PMI that our MPI speaks; None: mpirun must do.

    Raises:
        UserError: nothing but srun could start the workers, and it cannot.
    """
    srun = shutil.which("srun")
    if srun is None and asked:
        raise UserError("launch.launcher='srun' but there is no srun on PATH: use mpirun")
    if srun is None:
        return None
    if alone:
        return Found(srun, Slurm("none"), "Slurm", "")
    is_open_mpi = mpirun is not None and "Open MPI" in _version(mpirun)
    try:
        pmi = usable_pmi(srun, "pmix" if is_open_mpi else "pmi2")
    except UserError:
        if asked or mpirun is None:
            raise
        return None
    return Found(srun, Slurm(pmi), f"Slurm ({pmi})", _library(mpirun) if mpirun else "")


def _mpirun(settings: Launch) -> str | None:
    named = settings.mpirun or os.environ.get("ARIGNOTE_MPIRUN", "")
    if named:
        found = shutil.which(named)
        if found is None:
            raise UserError(f"launch.mpirun={named!r} is no program here: give its full path")
        return found
    beside = Path(sys.prefix) / "bin"
    for name in ("mpirun", "mpiexec"):
        found = shutil.which(name, path=str(beside)) or shutil.which(name)
        if found is not None:
            return found
    return None


def _version(program: str) -> str:
    """What `program --version` prints."""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{program} --version failed: {error}") from None
    return (done.stdout + done.stderr).strip() or "unknown"


def _title(version: str) -> str:
    """`mpirun (Open MPI) 5.0.11`; MPICH says its number in a line of its own."""
    first, *others = version.splitlines()
    for line in others:
        if line.strip().startswith("Version:"):
            return f"{first.split()[0]} {line.split()[-1]}"
    return first


def _flavour(program: str, version: str) -> Flavour:
    if "Open MPI" in version or "OpenRTE" in version or "PRTE" in version:
        return OpenMPI()
    if "Intel" in version:
        return IntelMPI()
    if "HYDRA" in version or "MPICH" in version:
        return MPICH()
    raise UserError(
        f"{program} is no MPI launcher that we know (Open MPI, MPICH, Intel MPI): it calls itself "
        f"{version.splitlines()[0]!r}; name another with --set launch.mpirun=PATH"
    )


def _library(program: str) -> str:
    """The libmpi beside `program`, so that mpi4py loads the same MPI that starts the workers.

    The bad story: mpi4py finds another MPI first; every worker forms a world of its own, and
    each trains alone on all the data.
    """
    lib = Path(program).resolve().parent.parent / "lib"
    if lib == Path(sys.prefix) / "lib":
        return ""
    for name in ("libmpi.so.40", "libmpi.so.12"):
        if (lib / name).exists():
            return str(lib / name)
    return ""
