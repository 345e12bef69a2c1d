"""scikit-learn's handwritten digits: 1,797 images of 8x8 pixels, embedded in that package."""

from __future__ import annotations

import numpy as np

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
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise UserError(
                'data set digits needs scikit-learn: pip install "arignote[demo]"'
            ) from None
        digits = load_digits()
        # The values are 0..16.
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        by_class = np.argsort(digits.target, kind="stable")
        is_validation = np.zeros(len(images), bool)
        is_validation[by_class[::_VALIDATION_EVERY]] = True
        self._splits: dict[Split, Images] = {
            "train": images[~is_validation],
            "validation": images[is_validation],
        }
        super().__init__(
            classes=tuple(str(name) for name in digits.target_names),
            sample_shape=(1, 8, 8),
            train_labels=digits.target[~is_validation],
            validation_labels=digits.target[is_validation],
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
