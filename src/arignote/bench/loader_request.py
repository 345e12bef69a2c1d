"""What `bench loader` is asked for, checked before any process starts; torch stays out of here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from arignote.bench.request import parse_counts
from arignote.config.settings import Loading
from arignote.errors import UserError

LOADER_PEERS = ("torch",)
STORED_SIZE = 256
"""Pixels a side of what is prepared."""
MOST_LOADERS = 64
CORE_BATCHES = 4
"""Batches that the loader on one core writes to in turn."""
_MOST_BATCH = 65_536
_MOST_IMAGES = 1_000_000
_PREFETCHED = 2
"""Batches that a DataLoader has each worker make ahead, unless told otherwise."""
_TORCH_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class LoaderRequest:
    """`arignote bench loader`, resolved."""

    folder: str
    """Where images are, as `imagefolder` reads them, and where more may be written."""
    made: bool
    """Whether the images are the bench's own."""
    size: int
    """Pixels a side of a sample."""
    loaders: Sequence[int]
    peers: Sequence[str]
    batch_size: int
    seconds: float
    """For each entrant."""

    def text(self) -> str:
        """As an argument of the program."""
        return json.dumps(asdict(self))

    @property
    def batch_bytes(self) -> int:
        """Of a batch in float32."""
        return self.batch_size * 3 * self.size * self.size * 4


def parse_loaders(text: str) -> list[int]:
    """`2,1` -> [1, 2], each once.

    Raises:
        UserError: one is no whole number, or out of range.
    """
    return parse_counts("--loaders", text, MOST_LOADERS, "1,2")


def whole(option: str, value: int) -> int:
    """`value` of this option of `bench loader`.

    Raises:
        UserError: it is out of range.
    """
    most = {"--size": STORED_SIZE, "--batch-size": _MOST_BATCH, "--images": _MOST_IMAGES}[option]
    if not 1 <= value <= most:
        why = ": samples are cut out of what is stored" if option == "--size" else ""
        raise UserError(f"{option}: got {value}, expected 1 to {most}{why}")
    return value


def check_room(request: LoaderRequest) -> None:
    """Raise a UserError if the batches do not fit into memory, or not where torch shares them."""
    one = request.batch_bytes
    ahead = Loading().ahead_mib * 2**20
    # Two data sets of ours, with each number of loaders; all live from the first turn to the last.
    rings = sum(2 * max(2 * one, min(ahead, (2 * k + 2) * one)) for k in request.loaders)
    of_torch = (_PREFETCHED * max(request.loaders) + 1) * one if request.peers else 0
    on_core = 2 * CORE_BATCHES * one // 4
    needed, free = rings + of_torch + on_core, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"--batch-size: batches of {request.batch_size} need {needed / 2**30:.1f} GiB ahead, "
            f"and {free / 2**30:.1f} GiB are free: use smaller ones, or fewer --loaders"
        )
    if of_torch and _TORCH_MEMORY.is_dir():
        free = shutil.disk_usage(_TORCH_MEMORY).free
        if of_torch > free:
            raise UserError(
                f"a DataLoader shares its batches in {_TORCH_MEMORY}, where "
                f"{of_torch / 2**20:,.0f} MiB are needed and {free / 2**20:,.0f} MiB are free: "
                "use smaller --batch-size, or --vs none"
            )
