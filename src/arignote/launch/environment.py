"""Which environment variables the workers get: on this host all of ours, on others a chosen few."""

from __future__ import annotations

import os

from arignote import control
from arignote.config.settings import Launch
from arignote.errors import UserError
from arignote.launch.placement import Placement


def worker_environment(placement: Placement) -> dict[str, str]:
    """What every worker is told through its environment."""
    threads = str(placement.threads)
    return {
        "ARIGNOTE_WORKERS": str(placement.workers),
        "ARIGNOTE_SERVERS": str(placement.servers),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        # Open MPI 5.0 prints a harmless line about it otherwise.
        "OMPI_MCA_osc": "^ucx",
    }


def describe_environment(base: dict[str, str]) -> dict[str, str]:
    """The variables that workers on other hosts need, of those that are set here."""
    names = (
        "PATH",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "HF_HOME",
        "TORCH_HOME",
        "XDG_CACHE_HOME",
        "TMPDIR",
    )
    prefixes = ("ARIGNOTE_", "NCCL_", "UCX_", "FI_", "MPI4PY_")
    return {
        name: value for name, value in base.items() if name in names or name.startswith(prefixes)
    }


def forwarded_environment(
    settings: Launch, placement: Placement, environment: dict[str, str]
) -> dict[str, str]:
    """The part of this host's `environment` that workers on other hosts get.

    Raises:
        UserError: a variable that is to be passed on is not set.
    """
    forwarded = describe_environment(environment)
    for name in settings.environment:
        if name not in environment:
            raise UserError(f"launch.environment: {name!r} is not set here, so it cannot be passed")
        forwarded[name] = environment[name]
    for name in worker_environment(placement):
        forwarded[name] = environment[name]
    return forwarded


def own_environment() -> dict[str, str]:
    """This process's environment, without what would confuse a nested launch."""
    ours = (control.CONTROL_VARIABLE, control.PROCESS_VARIABLE)
    return {k: v for k, v in os.environ.items() if k not in ours}
