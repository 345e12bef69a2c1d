"""Arignote: data-parallel deep-learning training over MPI, synchronous or not.

`attach` for a loop that you have, `Model` for our trainer, `TorchData` for data sets that you have;
`BSP`, `EASGD`, `ASGD`, `GOSGD` to start a run from Python.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from arignote.data.base import Batch, Dataset
    from arignote.data.torch_data import TorchData
    from arignote.errors import (
        ArignoteError,
        CheckpointError,
        DataError,
        LostWorkerError,
        NotANumberError,
        UserError,
    )
    from arignote.launch.session import ASGD, BSP, EASGD, GOSGD
    from arignote.models.base import Model
    from arignote.trainer.attach import attach

__all__ = [
    "ASGD",
    "BSP",
    "EASGD",
    "GOSGD",
    "ArignoteError",
    "Batch",
    "CheckpointError",
    "DataError",
    "Dataset",
    "LostWorkerError",
    "Model",
    "NotANumberError",
    "TorchData",
    "UserError",
    "attach",
]

_HOMES = {
    "ASGD": "arignote.launch.session",
    "BSP": "arignote.launch.session",
    "Batch": "arignote.data.base",
    "Dataset": "arignote.data.base",
    "EASGD": "arignote.launch.session",
    "GOSGD": "arignote.launch.session",
    "Model": "arignote.models.base",
    "TorchData": "arignote.data.torch_data",
    "attach": "arignote.trainer.attach",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are asked for: the launcher must not import torch."""
    if name not in __all__:
        raise AttributeError(f"module 'arignote' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "arignote.errors")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
