"""Which PMI a Slurm has: what lets the workers that srun starts find each other."""

from __future__ import annotations

import re
import subprocess

from arignote.errors import UserError

_OTHER_WAY = "use --set launch.launcher=mpirun"
_SECONDS = 20


def usable_pmi(srun: str, wanted: str) -> str:
    """The name for `srun --mpi` of a plugin that is there and loads.

    Args:
        wanted: `pmix` (Open MPI), or `pmi2` (MPICH and what descends from it).

    Raises:
        UserError: there is none of that kind, or it does not load here.
    """
    names = re.findall(r"\bpmi[a-z0-9_]*", _says(srun, "--mpi=list"))
    fits = [name for name in names if re.fullmatch(rf"{wanted}(_v\d+)?", name)]
    if not fits:
        has = ", ".join(sorted(set(names))) or "none"
        raise UserError(
            f"Slurm has no {wanted}, by which this MPI's workers would find each other (srun "
            f"--mpi=list has: {has}): {_OTHER_WAY}, or an MPI that speaks what Slurm has"
        )
    name = wanted if wanted in fits else max(fits)
    # Listed is not loadable: a plugin may miss a library. To ask so starts nothing.
    said = _says(srun, f"--mpi={name}", "--test-only", "--ntasks=1", "true")
    if "Invalid MPI type" in said:
        why = next((line for line in said.splitlines() if "load" in line), said)
        why = why.rpartition(": ")[2]
        raise UserError(
            f"Slurm's {name}, by which this MPI's workers would find each other, does not load "
            f"here ({why}): {_OTHER_WAY}, or have that library installed"
        )
    return name


def _says(srun: str, *arguments: str) -> str:
    """What srun prints.

    Raises:
        UserError: it does not answer.
    """
    try:
        done = subprocess.run(
            [srun, *arguments],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"srun {arguments[0]} failed ({error}): {_OTHER_WAY}") from None
    return done.stdout + done.stderr
