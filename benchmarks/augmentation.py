"""Milliseconds of each step of `train.augment`, and of decoding JPEGs to 224, on one core.

One process, one thread; the median of rounds in which all take turns.

python benchmarks/augmentation.py
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
from PIL import Image, ImageOps

from arignote.data.augmentation.chain import apply_steps, open_steps
from arignote.data.decode import decode_content
from arignote.data.draws import sample_bits
from arignote.data.pixels import Images

STEPS = (
    "crop",
    "mirror",
    "resized-crop",
    "color-jitter",
    "color-jitter:hue=0.1",
    "randaugment",
)
SIZES = (32, 224)
PHOTOGRAPHS = ((1000, 750), (3000, 2000))
SIDE = 224
NOISE = 8
ROUNDS, IMAGES = 15, 32


def smooth(width: int, height: int, count: int) -> Images:
    """Images (count, height, width, 3) of random colours that change slowly."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (count, 12, 16, 3), np.uint8)
    size = (width, height)
    pictures = (Image.fromarray(c).resize(size, Image.Resampling.BICUBIC) for c in coarse)
    return np.stack([np.asarray(picture) for picture in pictures])


def jpeg(width: int, height: int) -> bytes:
    """One of them with noise, as a file of quality 90."""
    noise = np.random.default_rng(1).normal(0, NOISE, (height, width, 1))
    pixels = np.clip(smooth(width, height, 1)[0] + noise, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def whole(content: bytes) -> Images:
    """The image in the middle, decoded at full scale and then resized."""
    with Image.open(io.BytesIO(content)) as image:
        fitted = ImageOps.fit(image.convert("RGB"), (SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(fitted)


def step_calls() -> dict[str, Callable[[], object]]:
    """Each step on IMAGES images of each size."""
    bits = sample_bits(np.arange(IMAGES), seed=0, epoch=0)
    calls: dict[str, Callable[[], object]] = {}
    for size in SIZES:
        images = smooth(size, size, IMAGES)
        for name in STEPS:
            steps = open_steps(name, 3)
            calls[f"{name}, {size}x{size}"] = partial(apply_steps, steps, images, bits)
    return calls


def decode_calls() -> dict[str, Callable[[], object]]:
    """Each photograph, as ours decodes it, and at full scale."""
    calls: dict[str, Callable[[], object]] = {}
    for width, height in PHOTOGRAPHS:
        content = jpeg(width, height)
        name = f"{width}x{height}, {len(content) / width / height:.2f} bytes a pixel"
        calls[f"{name}, ours"] = partial(decode_content, content, "a photograph", SIDE)
        calls[f"{name}, at full scale"] = partial(whole, content)
    return calls


def timed(calls: dict[str, Callable[[], object]], each: int) -> dict[str, float]:
    """Median milliseconds of a call, over `each` images of it."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            found[name].append(1000 * (time.perf_counter() - begun) / each)
    return {name: median(times) for name, times in found.items()}


if __name__ == "__main__":
    rows = timed(step_calls(), IMAGES) | timed(decode_calls(), 1)
    for name, milliseconds in rows.items():
        sys.stdout.write(f"{name:46} {milliseconds:8.3f} ms\n")
