"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, embedded in that package."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt

from arignote.config.spec import Spec
from arignote.data.arguments import expect_arguments, expect_no_options
from arignote.data.base import Split
from arignote.data.images import ImageDataset
from arignote.data.pixels import Images
from arignote.data.sharding import Indices
from arignote.errors import UserError

_VALIDATION_EVERY = 5


class Digits(ImageDataset):
    """`digits`: samples (1, 8, 8), classes "0" to "9", 1,437 to train on and 360 to validate.

    The split is always the same, whatever the run's seed: the samples in the order of their
    class, of which every fifth is for validation.
    """

    def __init__(self, *, augment: str) -> None:
        """Load both splits.

        Raises:
            UserError: scikit-learn is not installed.
        """
        table = _read_table()
        # The values are 0..16.
        images = np.rint(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
        labels = table[:, -1].astype(np.int64)
        by_class = np.argsort(labels, kind="stable")
        is_validation = np.zeros(len(images), bool)
        is_validation[by_class[::_VALIDATION_EVERY]] = True
        self._splits: dict[Split, Images] = {
            "train": images[~is_validation],
            "validation": images[is_validation],
        }
        super().__init__(
            classes=tuple(str(digit) for digit in range(10)),
            sample_shape=(1, 8, 8),
            train_labels=labels[~is_validation],
            validation_labels=labels[is_validation],
            augment=augment,
        )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> Digits:
        """Open `digits`.

        Raises:
            UserError: scikit-learn is not installed, or the spec has arguments or options.
        """
        expect_arguments(spec, 0, "digits")
        expect_no_options(spec)
        return cls(augment=augment)

    def _images(self, split: Split, indices: Indices) -> Images:
        return self._splits[split][indices]


def _read_table() -> npt.NDArray[np.float64]:
    """64 pixels and the class of each sample, (samples, 65).

    From scikit-learn's file, without its code, whose import is slow in every worker.

    Raises:
        UserError: it is not there.
    """
    package = importlib.util.find_spec("sklearn")
    folders = package.submodule_search_locations if package is not None else None
    for folder in folders or ():
        file = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if file.is_file():
            with gzip.open(file, "rt") as lines:
                return np.loadtxt(lines, delimiter=",")
    raise UserError('data set digits needs scikit-learn: pip install "arignote[demo]"')
