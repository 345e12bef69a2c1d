"""Folders in the layout of `cifar10:DIR`, whole or in part: what every run of a study reads."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np

from arignote.data.base import Split
from arignote.data.images import ImageDataset
from arignote.data.open import open_data
from arignote.data.sharding import Indices

WHOLE = 50_000
_SEED = 0
_CHUNK = 500


def cut(source: Path, work: Path, stage: Literal["search", "run"], samples: int) -> Path:
    """The folder with `samples` training images in `work`, made where it is not there yet.

    The images are drawn once, at random. What `search` validates on (half as many) are others of
    the training set, never test images; `run` has the test set (of a part: a fifth as many).
    """
    folder = work / f"{stage}-{samples}"
    if folder.is_dir():
        return folder
    data = _open(source)
    order = np.random.default_rng(_SEED).permutation(data.train_size)
    held: tuple[Split, Indices]
    if stage == "search":
        held = "train", order[samples : samples + samples // 2]
    else:
        wanted = data.validation_size if samples >= data.train_size else samples // 5
        tests = np.random.default_rng(_SEED).permutation(data.validation_size)
        held = "validation", tests[:wanted]
    if min(samples, len(held[1])) < 1 or samples > data.train_size:
        raise ValueError(f"{samples} samples cannot be had of {data.train_size}")
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    _write(data, "train", np.sort(order[:samples]), unfinished, "train")
    _write(data, held[0], np.sort(held[1]), unfinished, "test")
    unfinished.rename(folder)
    return folder


def _open(source: Path) -> ImageDataset:
    """CIFAR-10 as binary files, as arrays, or as a folder of images a class."""
    form = "imagefolder" if (source / "train").is_dir() else "cifar10"
    data = open_data(f"{form}:{source}", "none")
    if not isinstance(data, ImageDataset) or data.sample_shape != (3, 32, 32):
        raise ValueError(f"{source} holds images of {data.sample_shape}, expected (3, 32, 32)")
    return data


def _write(data: ImageDataset, split: Split, indices: Indices, folder: Path, name: str) -> None:
    channels, height, width = data.sample_shape
    images = np.empty((len(indices), height, width, channels), np.uint8)
    for start in range(0, len(indices), _CHUNK):
        part = slice(start, start + _CHUNK)
        data.load_images(split, indices[part], images[part])
    np.save(folder / f"x_{name}.npy", images)
    np.save(folder / f"y_{name}.npy", data.labels(split, indices).astype(np.uint8))
