"""Look at this machine as a run would find it. MPI and torch are asked in a child process,
because loading a broken one may crash."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from typing import Any

import psutil
from pydantic import BaseModel

from arignote.config.load import resolve
from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch.allocation import find_allocation
from arignote.launch.find import Found, find_launcher
from arignote.launch.placement import usable_cores
from arignote.launch.prepare import prepare
from arignote.topology.machine import Machine, allowed_cpus
from arignote.topology.rows import SeenGpu, topology_rows

_PROBE = """
import json
from mpi4py import MPI
from arignote.topology.machine import allowed_cpus, write_cpus
from arignote.comm.cuda_aware import cuda_aware
facts = {}
facts["size"] = MPI.COMM_WORLD.size
first_line = MPI.Get_library_version().strip("\\0 \\n").splitlines()[0]
facts["library"] = " ".join(first_line.split(",")[0].split())
facts["thread level"] = ["single", "funneled", "serialized", "multiple"][
    [MPI.THREAD_SINGLE, MPI.THREAD_FUNNELED, MPI.THREAD_SERIALIZED, MPI.THREAD_MULTIPLE].index(
        MPI.Query_thread())]
try:
    MPI.COMM_SELF.Dup().Get_failed()
    facts["ULFM"] = "yes"
except Exception:
    facts["ULFM"] = "no"
facts["CUDA-aware MPI"] = "yes" if cuda_aware() else "no"
bound = MPI.COMM_WORLD.gather(write_cpus(allowed_cpus())) or []
facts["binding"] = "; ".join(f"worker {r} on CPUs {cpus}" for r, cpus in enumerate(bound))
if MPI.COMM_WORLD.rank == 0:
    print("PROBE " + json.dumps(facts), flush=True)
"""

_TORCH_PROBE = """
import json, torch
from dataclasses import asdict
from arignote import accelerator
from arignote.topology.gpus import driver_version
from arignote.topology.machine import Machine
gpus = [asdict(gpu) for gpu in accelerator.seen()]
problem = accelerator.why_none() if Machine().gpus() or driver_version() else ""
print("PROBE " + json.dumps({"torch": torch.__version__, "gpus": gpus, "problem": problem}))
"""
_PROBE_SECONDS = 60


class Diagnosis(BaseModel):
    """What was found, and what to do about it."""

    facts: dict[str, str]
    advice: list[str]


def examine() -> Diagnosis:
    """Look at everything that a run on this machine depends on."""
    memory = psutil.virtual_memory()
    shm = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None  # noqa: PTH112
    facts = {
        "python": f"{platform.python_version()} ({sys.executable})",
        "host": platform.node(),
        "cores": str(usable_cores()),
        "memory": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
        "shared memory": "none" if shm is None else f"{shm.free / 2**30:.1f} GiB free",
    }
    advice: list[str] = []
    if shm is not None and shm.free < 2**30:
        advice.append("less than 1 GiB is free in /dev/shm: enlarge it (docker: --shm-size=8g)")
    if memory.available < 2 * 2**30:
        advice.append("less than 2 GiB of memory is free: end other programs")
    _examine_mpi(facts, advice)
    _examine_torch(facts, advice)
    _examine_slurm(facts)
    return Diagnosis(facts=facts, advice=advice)


def _examine_mpi(facts: dict[str, str], advice: list[str]) -> None:
    try:
        count = _processes()
        settings = resolve([("", {"launch": {"workers": count}})]).launch
        found = find_launcher(settings)
    except UserError as error:
        facts["MPI"] = "none"
        advice.append(str(error))
        return
    facts["launcher"] = f"{found.version} ({found.program})"
    probe, problem = _run_probe(settings)
    if probe is None:
        facts["MPI"] = "does not run"
        advice.append(f"{count} processes under {found.program} failed: {problem}")
        return
    facts["MPI"] = str(probe.pop("library"))
    size = probe.pop("size")
    facts |= {name: str(value) for name, value in probe.items()}
    advice += _mpi_advice(found, probe, size, count)


def _processes() -> int:
    """That are started: two, but for an allocation that has room for one."""
    allocation = find_allocation()
    return 2 if allocation is None else min(2, allocation.slots)


def _mpi_advice(found: Found, probe: dict[str, Any], size: int, count: int) -> list[str]:
    advice = []
    if size != count:
        advice.append(
            f"{count} processes under {found.program} formed a world of {size}: mpi4py loads "
            "another MPI; install one MPI only, or set launch.mpirun to the one that mpi4py loads"
        )
    if probe["thread level"] != "multiple":
        advice.append("this MPI has no THREAD_MULTIPLE: exchanges cannot overlap with backward")
    return advice


def _run_probe(settings: Launch) -> tuple[dict[str, Any] | None, str]:
    launched = prepare(settings, [sys.executable, "-c", _PROBE])
    return _probe(launched.argv, launched.environment)


def _examine_torch(facts: dict[str, str], advice: list[str]) -> None:
    probe, problem = _probe([sys.executable, "-c", _TORCH_PROBE], dict(os.environ))
    if probe is None:
        facts["torch"] = "does not load"
        advice.append(f"torch does not load: {problem}")
        return
    facts["torch"] = str(probe["torch"])
    gpus = [SeenGpu(**gpu) for gpu in probe["gpus"]]
    facts["devices"] = ", ".join(f"{gpu.device} {gpu.name}" for gpu in gpus) or "cpu"
    facts |= topology_rows(Machine(), allowed_cpus(), gpus)
    if probe["problem"]:
        advice.append(f"the GPUs here cannot be used: {probe['problem']}")
    advice += [
        f"{gpu.device} is full, no worker can begin there: end what uses it (nvidia-smi)"
        for gpu in gpus
        if gpu.free_gib is None
    ]
    if gpus and facts.get("CUDA-aware MPI") == "no":
        advice.append("this MPI is not CUDA-aware: vectors on GPUs go through host memory")


def _examine_slurm(facts: dict[str, str]) -> None:
    job = os.environ.get("SLURM_JOB_ID")
    if job is not None:
        nodes = os.environ.get("SLURM_JOB_NODELIST", "?")
        facts["Slurm"] = f"job {job} on {nodes}"


def _probe(argv: list[str], environment: dict[str, str]) -> tuple[dict[str, Any] | None, str]:
    """(what the child found, what went wrong)."""
    try:
        done = subprocess.run(
            argv,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        # In its own words it would be the whole program that was run.
        return None, f"no end within {_PROBE_SECONDS} s: end other programs, and try again"
    except OSError as error:
        return None, str(error)
    for line in done.stdout.splitlines():
        if line.startswith("PROBE "):
            return json.loads(line.removeprefix("PROBE ")), ""
    lines = [line for line in done.stderr.splitlines() if line.strip(" -=")]
    return None, lines[-1] if lines else f"exit code {done.returncode}"
