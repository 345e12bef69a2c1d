"""Whether this MPI takes the memory of a device as it is: asked, then tried.

The bad story of trusting what it says:

1. an MPI says that it is CUDA-aware; the transport that it chose here, or its driver, is not,
2. the first exchange hands it a pointer into a GPU,
3. all workers are gone by a segmentation fault, or wait for ever.

So one worker a host starts a process that may crash (`comm.device_trial`): an MPI world of its own,
of one, which sends a vector on that device to itself. The others are told what came of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict

import torch

from arignote import accelerator
from arignote.comm.base import DeviceBuffers, World
from arignote.comm.cuda_aware import says_cuda_aware

TRIAL_SECONDS = 60.0
"""How long a trial may take: most of it is importing torch, and beginning with the device."""
TRIAL = "TRIAL "
"""What its answer, in JSON, begins with on its standard output."""

_OF_A_JOB = (
    *("PMI_", "PMI2_", "PMIX_", "PRTE_", "OMPI_COMM_", "OMPI_UNIVERSE", "OMPI_APP_", "OMPI_ARGV"),
    *("OMPI_FILE_", "OMPI_FIRST_", "OMPI_NUM_", "OMPI_MCA_ess", "OMPI_MCA_orte_", "OMPI_MCA_pmix"),
    *("HYD", "MPI_LOCAL", "MPIEXEC_", "PALS_", "ALPS_", "FLUX_", "SLURM_", "ARIGNOTE_"),
)
"""How variables begin by which an MPI would take a process for a part of our own job."""


def learn(world: World, device: torch.device) -> DeviceBuffers | None:
    """See `World.device_buffers`: one worker a host asks its MPI, all get all answers."""
    what = "the question whether this MPI takes the memory of devices"
    has_one = world.gather(accelerator.is_one(device), what)
    if not any(has_one):
        return None
    host = world.peers[world.rank].host
    first = [peer.host == host and has for peer, has in zip(world.peers, has_one, strict=True)]
    own = None
    if any(first) and first.index(True) == world.rank:
        own = asdict(ask(device, min(TRIAL_SECONDS, world.timeout_seconds / 2)))
    answers = world.gather(own, what)
    told = [
        (peer.host, DeviceBuffers(**answer))
        for peer, answer in zip(world.peers, answers, strict=True)
        if answer is not None
    ]
    for name, answer in told:
        if not answer.taken:
            return DeviceBuffers(False, f"{world.library} on {name}: {answer.reason}")
    return DeviceBuffers(True, f"{world.library}: {told[0][1].reason}")


def ask(
    device: torch.device, seconds: float, command: Sequence[str] | None = None
) -> DeviceBuffers:
    """What the MPI says, and if that is not no, what a trial shows.

    Args:
        seconds: how long the trial may take.
        command: what to run as the trial.
    """
    if says_cuda_aware() is False and accelerator.is_one(device):
        return DeviceBuffers(False, "it says that it takes no memory of GPUs")
    argv = command or [sys.executable, "-m", "arignote.comm.device_trial", str(device)]
    process = subprocess.Popen(
        argv,
        env=outside_of_a_job(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # The whole session: an MPI of one may have started a daemon.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return DeviceBuffers(
            False, f"a trial with memory of {device} was not done in {seconds:g} s"
        )
    return _heard(process.returncode, out, err, device)


def _heard(code: int, out: str, err: str, device: torch.device) -> DeviceBuffers:
    trial = f"a trial with memory of {device}"
    if code < 0:
        return DeviceBuffers(False, f"{trial} was killed by {signal.Signals(-code).name}")
    lines = [line.removeprefix(TRIAL) for line in out.splitlines() if line.startswith(TRIAL)]
    if code or not lines:
        last = next((line for line in reversed(err.splitlines()) if line.strip(" -=")), "no word")
        return DeviceBuffers(False, f"{trial} ended with exit code {code}: {last.strip()}")
    problem = json.loads(lines[-1])
    return DeviceBuffers(not problem, f"{trial} {f'failed: {problem}' if problem else 'went well'}")


def outside_of_a_job(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without what would make a child a part of this process's MPI job."""
    kept = {name: v for name, v in environment.items() if not name.startswith(_OF_A_JOB)}
    # Open MPI 4 starts a daemon for a process of its own otherwise.
    return {**kept, "OMPI_MCA_ess_singleton_isolated": "1"}
