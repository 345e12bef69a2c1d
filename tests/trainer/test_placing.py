"""Batches on the device: the same bits, whoever normalises them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from arignote.data.base import Batch
from arignote.data.images import normalise
from arignote.loading.pool import Want
from arignote.trainer.placing import Placing, channel_numbers, normalised

MEAN, DEVIATION = (120.3, 7.0, 99.99), (1.0, 63.1, 0.37)
CPU = torch.device("cpu")
STATISTICS = channel_numbers(MEAN, CPU), channel_numbers(DEVIATION, CPU)


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 4, 3), np.uint8)


def test_the_device_normalises_to_the_same_bits() -> None:
    expected = np.empty((5, 3, 7, 4), np.float32)
    normalise(images(), MEAN, DEVIATION, expected)
    found = normalised(torch.from_numpy(images()), *STATISTICS)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)


def wanted(count: int) -> Want:
    return Want("train", 3, np.arange(count))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_how_images_lie_in_memory(channels_last: bool, double: bool) -> None:
    placing = Placing(CPU, double, channels_last, STATISTICS)
    batch = Batch(torch.from_numpy(images()), torch.arange(5))
    inputs, targets = placing.place(batch, wanted(5))
    form = torch.channels_last if channels_last else torch.contiguous_format
    assert inputs.is_contiguous(memory_format=form)
    assert inputs.dtype == (torch.float64 if double else torch.float32)
    assert targets.tolist() == list(range(5))


def test_what_is_no_image_stays_as_it_is() -> None:
    tokens = torch.arange(6).reshape(2, 3)
    inputs, _ = Placing(CPU, False, True).place(Batch(tokens, tokens), wanted(2))
    assert inputs is tokens
