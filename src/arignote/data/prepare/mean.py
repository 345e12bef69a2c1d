"""Mean and deviation of images that are not prepared."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from arignote.data.prepare.decoding import count_part, in_order, parts
from arignote.data.prepare.source import open_images
from arignote.data.statistics import Statistics, statistics


def source_statistics(
    path: Path, workers: int, validation_share: float | None = None
) -> Statistics:
    """Of the training images of a folder or tar, at their own sizes, decoded by `workers`.

    `validation_share`: of images whose names begin with their class, as in `open_named`.

    Raises:
        DataError: the folder is not what it should be, or an image is bad.
    """
    counts = np.zeros((3, 256), np.int64)
    samples = open_images(path, validation_share).train
    with closing(in_order(count_part, parts(samples), workers)) as results:
        for part in results:
            counts += part
    return statistics(counts)
