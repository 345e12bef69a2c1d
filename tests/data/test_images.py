"""The base of the image sets: mean and deviation."""

from __future__ import annotations

import numpy as np

from arignote.data.images import ImageDataset


class Members(ImageDataset):
    """Image `index` has the colour `index % 256`, and a second channel that is always 9."""

    def __init__(self, size):
        self.asked = []
        labels = np.zeros(size, np.uint8)
        super().__init__(
            classes=("only",),
            sample_shape=(2, 1, 1),
            train_labels=labels,
            validation_labels=labels,
            augment="none",
        )

    @classmethod
    def open(cls, spec, *, augment):
        raise NotImplementedError

    def _images(self, split, indices):
        self.asked.extend(indices.tolist())
        colours = np.stack([indices % 256, np.full_like(indices, 9)], axis=1)
        return colours.astype(np.uint8)[:, None, None, :]


def test_mean_and_deviation_come_from_evenly_spaced_images():
    for count, asked in ((7, list(range(7))), (2500, [n * 5 // 2 for n in range(1000)])):
        data = Members(count)
        assert data.asked == []
        assert len(data.known()["mean"]) == len(data.mean)
        assert data.asked == asked


def test_mean_and_deviation_are_exact():
    data = Members(200)
    inputs = data.train_batch(np.arange(200), seed=0, epoch=0).inputs[:, 0, 0, 0]
    expected = (np.arange(200) - 99.5) / np.arange(200).std()
    np.testing.assert_allclose(inputs, expected, rtol=1e-5, atol=1e-6)


def test_a_channel_of_one_colour_becomes_zero():
    inputs = Members(10).train_batch(np.arange(10), seed=0, epoch=0).inputs
    assert (inputs[:, 1] == 0).all()


def test_brightness_undoes_the_normalisation():
    data = Members(200)
    inputs = data.train_batch(np.arange(200), seed=0, epoch=0).inputs
    brightness = data.brightness(inputs)[..., 0, 0].numpy()
    expected = np.stack([np.arange(200), np.full(200, 9)], axis=1) / 255
    np.testing.assert_allclose(brightness, expected, atol=1e-6)
