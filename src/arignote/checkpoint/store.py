"""The checkpoints of a run: `RUN/checkpoints/step-00000120/`, each whole or not there.

    weights.safetensors        what to validate with and to use
    common.safetensors         position, optimizer, rule: equal on all workers
    worker-00000.safetensors   random states, counters, own optimizer: each worker's
    manifest.json              SHA-256 of each file

The bad story that the order of the steps prevents:
1. rank 0 writes its file and the manifest, worker 1 is still writing its own,
2. the power fails,
3. the newest checkpoint looks whole, and half of it is missing.

So: all workers write into a hidden folder and flush; they meet and count failures; only when
there are none, rank 0 writes the manifest, flushes, and renames the folder into place.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from arignote.checkpoint.pack import load_state, save_state
from arignote.comm.base import World
from arignote.durable import file_sha256, flush
from arignote.errors import CheckpointError

FOLDER = "checkpoints"
WEIGHTS, COMMON, MANIFEST, BEST = (
    "weights.safetensors",
    "common.safetensors",
    "manifest.json",
    "best.json",
)


def worker_file(rank: int) -> str:
    """The name of a worker's own file."""
    return f"worker-{rank:05d}.safetensors"


class CheckpointStore:
    """Writes and reads the checkpoints of one run, all workers together.

    Args:
        run_folder: the run's; all workers must see the same one.
        keep_last: how many of the newest to keep, besides the best.
    """

    def __init__(self, run_folder: Path, world: World, *, keep_last: int) -> None:
        self.folder = run_folder / FOLDER
        self.world = world
        self.keep_last = keep_last

    def path(self, step: int) -> Path:
        """The folder of the checkpoint of `step`."""
        return self.folder / f"step-{step:08d}"

    def names(self) -> list[str]:
        """The finished checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.name.startswith("step-"))

    def save(
        self, step: int, *, weights: dict[str, torch.Tensor], common: Any, own: Any
    ) -> str | None:
        """Save a checkpoint; collective. None when it worked, else what went wrong.

        `weights` and `common` are rank 0's, `own` is each worker's. After a failure the
        older checkpoints are as they were.
        """
        hidden = self.folder / f".saving-step-{step:08d}"
        states: dict[str, Any] = {worker_file(self.world.rank): own}
        if self.world.rank == 0:
            states |= {WEIGHTS: weights, COMMON: common}
        problem = self._together(lambda: self._prepare(hidden))
        digests: dict[str, str] = {}
        if problem is None:
            problem = self._together(lambda: digests.update(_write(hidden, states)))
        if problem is None:
            every = self.world.gather(digests, "the saving of a checkpoint")
            merged = {name: digest for part in every for name, digest in part.items()}
            problem = self._together(lambda: self._finish(hidden, step, merged))
        if problem is not None and self.world.rank == 0:
            shutil.rmtree(hidden, ignore_errors=True)
        return problem

    def _together(self, work: Any) -> str | None:
        """Run `work` on every worker; the first failure of any, known to all."""
        problem = ""
        try:
            work()
        except OSError as error:
            problem = f"worker {self.world.rank}: {error}"
        problems = self.world.gather(problem, "the saving of a checkpoint")
        return next(filter(None, problems), None)

    def _prepare(self, hidden: Path) -> None:
        if self.world.rank == 0:
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir(parents=True)

    def _finish(self, hidden: Path, step: int, digests: dict[str, str]) -> None:
        if self.world.rank != 0:
            return
        manifest = hidden / MANIFEST
        record = {"step": step, "workers": self.world.size, "files": digests}
        manifest.write_text(json.dumps(record, indent=1))
        flush(manifest)
        flush(hidden)
        final = self.path(step)
        shutil.rmtree(final, ignore_errors=True)
        hidden.rename(final)
        flush(self.folder)
        self._prune(newest=step)

    def _prune(self, newest: int) -> None:
        """Keep the last few and the best; what is newer than the one just saved is a damaged one
        that was passed over, or the future of a run that was taken back."""
        past = [name for name in self.names() if name <= f"step-{newest:08d}"]
        keep = {*past[-self.keep_last :], self.best()[0]}
        for name in self.names():
            if name not in keep:
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def best(self) -> tuple[str, float]:
        """(name, validation value) of the best so far; ("", inf) where there is none."""
        try:
            record = json.loads((self.folder / BEST).read_text())
            return str(record["name"]), float(record["value"])
        except (OSError, ValueError, KeyError, TypeError):
            # There is none yet, or it is damaged: the next good one takes its place.
            return "", float("inf")

    def note_best(self, step: int, value: float) -> None:
        """On rank 0: the checkpoint of `step` is the best, its validation value being `value`."""
        temporary = self.folder / f".{BEST}"
        temporary.write_text(json.dumps({"name": f"step-{step:08d}", "value": value}))
        temporary.replace(self.folder / BEST)
        self._prune(newest=step)

    def newest_sound(self) -> tuple[str | None, list[str]]:
        """(the newest checkpoint that is whole, what is wrong with each newer one); collective.

        Rank 0 looks, so that all workers take the same one.
        """
        found: list[Any] = [None, []]
        if self.world.rank == 0:
            for name in reversed(self.names()):
                problem = damage(self.folder / name)
                if problem is None:
                    found[0] = name
                    break
                found[1].append(problem)
        name, problems = self.world.gather(found, "the choice of a checkpoint")[0]
        return name, problems

    def load(self, name: str, part: str) -> Any:
        """One file of a checkpoint, as `save` was given it.

        Raises:
            CheckpointError: it is not there, on this host.
        """
        path = self.folder / name / part
        if not path.is_file():
            raise CheckpointError(
                f"{path} is missing: all hosts must see the same run folder (--out on a shared "
                "file system)"
            )
        return load_state(path)


def damage(checkpoint: Path, needed: Collection[str] | None = None) -> str | None:
    """What is wrong with a checkpoint (with the files `needed` of it), or None."""
    try:
        manifest = json.loads((checkpoint / MANIFEST).read_text())
        files = dict(manifest["files"])
        expected = {WEIGHTS, COMMON, *(worker_file(r) for r in range(manifest["workers"]))}
    except (OSError, ValueError, KeyError, TypeError):
        return f"checkpoint {checkpoint.name} is damaged: its {MANIFEST} cannot be read"
    if set(files) != expected:
        return f"checkpoint {checkpoint.name} is damaged: its {MANIFEST} does not name its files"
    for name, digest in files.items():
        if needed is not None and name not in needed:
            continue
        path = checkpoint / name
        if not path.is_file():
            return f"checkpoint {checkpoint.name} is damaged: {name} is missing"
        if file_sha256(path) != digest:
            return f"checkpoint {checkpoint.name} is damaged: {name} has another SHA-256"
    return None


def refuse_other_tensors(
    name: str,
    model: str,
    theirs: Mapping[str, torch.Tensor],
    ours: Mapping[str, torch.Tensor],
) -> None:
    """Raise a CheckpointError where the weights of checkpoint `name`, saved of `model`, are not
    `ours` by name and shape."""
    there = {key: tuple(tensor.shape) for key, tensor in theirs.items()}
    here = {key: tuple(tensor.shape) for key, tensor in ours.items()}
    for key in sorted(here.keys() | there.keys()):
        if here.get(key) != there.get(key):
            raise CheckpointError(
                f"checkpoint {name} is of another model ({model}): {key} is "
                f"{there.get(key, 'missing')} there and {here.get(key, 'missing')} here"
            )


def _write(folder: Path, states: dict[str, Any]) -> dict[str, str]:
    """Write and flush each state; the digest of each file."""
    digests = {}
    for name, state in states.items():
        path = folder / name
        save_state(path, state)
        flush(path)
        digests[name] = file_sha256(path)
    return digests
