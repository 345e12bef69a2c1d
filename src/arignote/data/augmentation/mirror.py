"""Random mirror: left and right change places with probability 1/2."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from arignote.config.augment_options import StepOptions
from arignote.data.augmentation.base import Augmentation
from arignote.data.draws import Bits
from arignote.data.pixels import Images


class Mirror(Augmentation):
    """The step `mirror`. Draws from the top bit itself."""

    name = "mirror"
    any_channels = True

    def __init__(self, options: StepOptions) -> None:
        """It has no options."""

    def apply(self, images: Images, bits: Bits) -> Images:
        """See `Augmentation.apply`."""
        return np.where(mirrored(bits)[:, None, None, None], images[:, :, ::-1], images)


def mirrored(bits: Bits) -> npt.NDArray[np.bool_]:
    """Which samples are mirrored, (N,)."""
    # The top bit; the corners of crops are drawn from the lower 48.
    return (bits >> np.uint64(63)).astype(bool)
