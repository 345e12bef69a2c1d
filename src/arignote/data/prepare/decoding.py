"""Decoding by several processes, in order."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import NamedTuple, TypeVar

import numpy as np

from arignote.data.decode import BadImageError, decode_content
from arignote.data.pixels import Images
from arignote.data.prepare.samples import Sample
from arignote.data.statistics import Counts, count_values
from arignote.data.storage import read_file
from arignote.errors import ArignoteError, DataError
from arignote.orphan import die_with_parent

PART = 16
"""Images that a process decodes at a time."""
_AHEAD = 2
"""Parts a process that are decoded ahead of the one that is wanted."""

T = TypeVar("T")
R = TypeVar("R")


class Decoded(NamedTuple):
    """What became of a part."""

    images: Images
    """Those that are whole, in order: (N, size, size, 3)."""
    counts: Counts
    """Of their pixel values."""
    bad: list[tuple[str, str]]
    """Name of each other, and what is wrong with it."""


def decode_part(samples: Sequence[Sample], size: int) -> Decoded:
    """Decode images, each brought to size x size as `decode` does.

    Raises:
        DataError: a file cannot be read.
    """
    images: list[Images] = []
    bad = []
    for sample in samples:
        try:
            images.append(_decode(sample, size))
        except BadImageError as error:
            bad.append((sample.name, str(error)))
    whole = np.stack(images) if images else np.empty((0, size, size, 3), np.uint8)
    return Decoded(whole, count_values(whole), bad)


def count_part(samples: Sequence[Sample]) -> Counts:
    """The counts of images of any size.

    Raises:
        DataError: a file cannot be read, or holds no whole image.
    """
    counts = np.zeros((3, 256), np.int64)
    for sample in samples:
        try:
            counts += count_values(_decode(sample, 0))
        except BadImageError as error:
            raise DataError(f"{error}: replace it, or move it away") from None
    return counts


def parts(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    """`samples` in parts of `PART`."""
    return (samples[start : start + PART] for start in range(0, len(samples), PART))


def in_order(
    function: Callable[[T], R], items: Iterable[T], workers: int
) -> Generator[R, None, None]:
    """`function` of each item, by `workers` processes (1: by this one), in the order of items.

    Raises:
        ArignoteError: a process was killed.
    """
    if workers == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[R]] = deque()
    # Not forked: the caller may have threads, whose locks a copy would hold forever.
    context = get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),)
    ) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise ArignoteError(
                "a process that decodes was killed, maybe for want of memory: run it again with "
                "fewer --workers; what is whole is kept"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


def _begin(parent: int) -> None:
    die_with_parent(parent=parent)
    # Ctrl-C reaches all processes of a terminal: the parent's word is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _decode(sample: Sample, size: int) -> Images:
    content = read_file(sample.path, sample.offset, sample.size)
    return decode_content(content, sample.place, size)
