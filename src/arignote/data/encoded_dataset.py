"""What all sets of encoded images share: each is decoded when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from arignote.data.augmentation.base import Augmentation
from arignote.data.augmentation.chain import open_steps
from arignote.data.augmentation.resized_crop import ResizedCrop
from arignote.data.base import Split
from arignote.data.draws import Bits
from arignote.data.encoded import EncodedImages, ImageSource
from arignote.data.images import ImageDataset
from arignote.data.pixels import Images
from arignote.data.sharding import Indices

_CHANNELS = 3


class EncodedDataset(ImageDataset):
    """Base of the sets of JPEG and PNG images: samples (3, H, W), RGB.

    With the step resized-crop a training sample is cut out of its image at the resolution of the
    file, so the training images are decoded in every epoch, each as small as its part allows.
    Mean and deviation are those of whole images.
    """

    def __init__(
        self,
        train: ImageSource,
        validation: ImageSource,
        *,
        size: int,
        spec: str,
        classes: tuple[str, ...],
        train_labels: npt.NDArray[np.integer],
        validation_labels: npt.NDArray[np.integer],
        augment: str,
        advice: str = "replace it",
        keep: bool = True,
    ) -> None:
        """Decode the first training image, whose shape all must have unless there is a `size`.

        `size`, `spec`, `advice` and `keep` are as for `EncodedImages`, all others as for
        `ImageDataset`.

        Raises:
            DataError: the first image of `train` cannot be decoded.
            UserError: `augment` is no augmentation that we know.
        """
        steps = open_steps(augment, _CHANNELS)
        self._resized_crop = steps[0] if steps and isinstance(steps[0], ResizedCrop) else None
        how: Any = {"size": size, "spec": spec, "advice": advice}
        first = EncodedImages(train, keep=keep and self._resized_crop is None, **how)
        other = EncodedImages(validation, keep=keep, shape=first.shape, **how)
        self._encoded: dict[Split, EncodedImages] = {"train": first, "validation": other}
        height, width = first.shape[:2]
        super().__init__(
            classes=classes,
            sample_shape=(_CHANNELS, height, width),
            train_labels=train_labels,
            validation_labels=validation_labels,
            augment=augment,
        )

    def _images(self, split: Split, indices: Indices) -> Images:
        return self._encoded[split].images(indices)

    def _training_images(
        self, indices: Indices, bits: Bits
    ) -> tuple[Images, Sequence[Augmentation]]:
        crop = self._resized_crop
        if crop is None:
            return super()._training_images(indices, bits)
        windows = [partial(crop.part, bits=own) for own in bits.tolist()]
        return self._encoded["train"].parts(indices, windows), self._steps[1:]
