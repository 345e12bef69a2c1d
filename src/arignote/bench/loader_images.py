"""The images that `bench loader` loads: a copy of some that a user has, or made from a seed.

They are written as `imagefolder` reads them: FOLDER/train/CLASS/NUMBER.jpg. The layout wants
validation too: one image that nobody loads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from arignote.data.pixels import Images
from arignote.data.prepare.samples import Sample
from arignote.data.prepare.source import list_named, open_source
from arignote.data.storage import read_file

_SEED = 0
_SHAPES = ((500, 375), (375, 500), (500, 333), (500, 375))
"""(W, H), in turn. ImageNet's mean is 482 x 418; most of its files are 500 wide, or high."""
_CLASSES = 8
_QUALITY = 90
_GRIDS = ((4, 0.4), (16, 0.25), (64, 0.15), (250, 0.2))
"""Cells along a side of what is smoothly enlarged, and how much of it is mixed in."""
_NOISE = 18.0
"""Deviation of the finest grain: with it a file has about the 110 kB of ImageNet's."""


def find_images(path: Path, *, class_from_name: bool) -> list[Sample]:
    """The training images of what `arignote prepare` reads; all images, if names tell the class.

    Raises:
        DataError: as `arignote prepare` has it.
    """
    if class_from_name:
        return list_named(path)[1]
    return open_source(path).train


def copy_images(samples: Sequence[Sample], folder: Path, most: int) -> None:
    """Copy `most` of `samples` to `folder`, evenly spaced, or all if there are fewer.

    Raises:
        DataError: one cannot be read.
    """
    count = min(most, len(samples))
    for number in range(count):
        sample = samples[number * len(samples) // count]
        content = read_file(sample.path, sample.offset, sample.size)
        _write(folder, "train", sample.label, number, Path(sample.name).suffix, content)
    _write(folder, "val", samples[0].label, 0, ".jpg", _encode(_make(0)))


def make_images(folder: Path, count: int) -> None:
    """Write `count` images, always the same ones: smooth noise of several grains, as JPEG."""

    def one(number: int) -> None:
        _write(folder, "train", number % _CLASSES, number, ".jpg", _encode(_make(number)))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, range(count)))
    _write(folder, "val", 0, 0, ".jpg", _encode(_make(count)))


def _write(folder: Path, split: str, label: int, number: int, suffix: str, content: bytes) -> None:
    path = folder / split / f"class{label:05d}" / f"{number:07d}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _make(number: int) -> Images:
    """Image `number`, (H, W, 3)."""
    random = np.random.default_rng((_SEED, number))
    width, height = _SHAPES[number % len(_SHAPES)]
    pixels = np.zeros((height, width, 3), np.float32)
    for cells, part in _GRIDS:
        grid = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
        pixels += np.float32(part) * np.asarray(smooth, np.float32)
    pixels += np.float32(_NOISE) * random.standard_normal(pixels.shape, np.float32)
    image: Images = pixels.clip(0, 255).astype(np.uint8)
    return image


def _encode(image: Images) -> bytes:
    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
