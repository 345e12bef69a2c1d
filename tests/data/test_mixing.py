"""mixup and cutmix: closed forms, Beta's moments, and no batch that changes a sample."""

from __future__ import annotations

import numpy as np
import pytest

from arignote.config.mix_options import Mix
from arignote.config.settings import Loading, Settings, Train
from arignote.data.byte_images import fed_dataset
from arignote.data.draws import sample_bits
from arignote.data.mixing import (
    MixedImages,
    Plan,
    boxes,
    cutmix_,
    draw_plan,
    mixup_,
    shares_outside,
    soften,
    symmetric_beta,
)
from arignote.data.open import open_data
from arignote.errors import UserError

SPEC = "synthetic:3x8x6,10,train=40,validation=12"
MIXES = ("mixup", "cutmix")


def fed(mix, normalise="loader", augment="crop+mirror", spec=SPEC):
    settings = Settings(train=Train(mix=mix), loading=Loading(normalise=normalise))
    return fed_dataset(open_data(spec, augment), settings)


def plan_of(*shares, centre=(0.5, 0.5)):
    count = len(shares)
    return Plan(np.zeros(count, np.int64), np.array(shares), np.array([centre] * count))


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0])
def test_shares_have_the_moments_of_beta(alpha):
    plan = draw_plan(sample_bits(np.arange(20_000), seed=1, epoch=2), samples=50, alpha=alpha)
    shares = plan.shares
    assert shares.min() >= 0 and shares.max() <= 1
    # Six deviations of the mean; of the fourth moment about as many.
    variance = 1 / (4 * (2 * alpha + 1))
    assert shares.mean() == pytest.approx(0.5, abs=6 * (variance / 20_000) ** 0.5)
    assert shares.var() == pytest.approx(variance, rel=0.05)
    reference = np.random.default_rng(0).beta(alpha, alpha, 20_000)
    found = np.histogram(shares, 10, (0, 1))[0] - np.histogram(reference, 10, (0, 1))[0]
    assert np.abs(found).max() < 600
    assert np.bincount(plan.partners, minlength=50).min() > 300
    assert plan.centres.min() >= 0 and plan.centres.max() < 1


def test_alphas_that_floats_can_hardly_hold():
    for u, v in ((0.0, 0.0), (0.3, 0.25), (1 - 2**-53, 0.75), (0.9, 1 - 2**-53)):
        assert symmetric_beta(u, v, 1e-300) == pytest.approx(round(symmetric_beta(u, v, 1e-300)))
        assert 0 <= symmetric_beta(u, v, 1e-9) <= 1
    assert symmetric_beta(0.3, 0.1, 1e300) == 0.5
    assert symmetric_beta(0.64, 0.0, 1.0) == pytest.approx((1 + 0.6) / 2)


def test_mixup_is_the_rounded_mean():
    images = np.array([[[[0, 255, 10]]], [[[7, 8, 9]]], [[[200, 1, 255]]]], np.uint8)
    others = np.array([[[[255, 255, 11]]], [[[70, 80, 90]]], [[[0, 3, 255]]]], np.uint8)
    mixup_(images, others, np.array([0.25, 1.0, 0.5]))
    assert images[:, 0, 0].tolist() == [[191, 255, 11], [7, 8, 9], [100, 2, 255]]


def test_cutmix_puts_in_a_box():
    whole = plan_of(0.75, 1.0, 0.0)
    found = boxes(whole, (8, 6))
    # sqrt(1/4) of both sides about the middle; nothing; everything.
    assert found.tolist() == [[2, 6, 2, 5], [4, 4, 3, 3], [0, 8, 0, 6]]
    assert shares_outside(found, (8, 6)).tolist() == [0.75, 1.0, 0.0]
    corner = boxes(plan_of(0.75, centre=(0.99, 0.0)), (8, 6))
    # Rows 5 to 8, columns -1 to 1.
    assert corner.tolist() == [[5, 8, 0, 2]]
    assert shares_outside(corner, (8, 6)) == pytest.approx(1 - 6 / 48)
    images, others = np.zeros((1, 8, 6, 3), np.uint8), np.full((1, 8, 6, 3), 9, np.uint8)
    cutmix_(images, others, corner)
    expected = np.zeros((8, 6, 3), np.uint8)
    expected[5:8, 0:2] = 9
    assert np.array_equal(images[0], expected)


def test_targets_of_equal_labels_are_added():
    out = np.full((2, 3), 5, np.float32)
    soften(np.array([0, 2]), np.array([1, 2]), np.array([0.25, 0.25]), out)
    assert out.tolist() == [[0.25, 0.75, 0], [0, 0, 1]]


@pytest.mark.parametrize("name", MIXES)
def test_what_a_sample_is_mixed_of(name):
    plain, mixed = open_data(SPEC, "crop+mirror"), fed(f"{name}:alpha=0.8", "device")
    indices = np.array([3, 39, 0, 3])
    plan = draw_plan(sample_bits(indices, seed=5, epoch=2), samples=40, alpha=0.8)
    expected, others = np.empty((4, 8, 6, 3), np.uint8), np.empty((4, 8, 6, 3), np.uint8)
    plain.load_images("train", indices, expected, seed=5, epoch=2)
    # As the partner is in this epoch itself.
    plain.load_images("train", plan.partners, others, seed=5, epoch=2)
    if name == "mixup":
        mixup_(expected, others, plan.shares)
        shares = plan.shares
    else:
        cutmix_(expected, others, boxes(plan, (8, 6)))
        shares = shares_outside(boxes(plan, (8, 6)), (8, 6))
    batch = mixed.train_batch(indices, seed=5, epoch=2)
    assert np.array_equal(batch.inputs.numpy(), expected)
    targets = np.zeros((4, 10), np.float32)
    soften(plain.labels("train", indices), plain.labels("train", plan.partners), shares, targets)
    assert np.array_equal(batch.targets.numpy(), targets)
    assert batch.targets.sum(dim=1).numpy() == pytest.approx(np.ones(4))


@pytest.mark.parametrize("name", MIXES)
def test_the_batch_changes_nothing(name):
    data = fed(name)
    batch = data.train_batch(np.arange(12), seed=3, epoch=1)
    for place in (0, 7):
        alone = data.train_batch(np.array([place]), seed=3, epoch=1)
        assert alone.inputs[0].equal(batch.inputs[place])
        assert alone.targets[0].equal(batch.targets[place])
    other = data.train_batch(np.arange(12), seed=3, epoch=2)
    assert not other.targets.equal(batch.targets)


def test_validation_and_what_is_known_stay():
    plain, mixed = open_data(SPEC, "none"), fed("mixup")
    assert isinstance(mixed, MixedImages)
    assert (mixed.mean, mixed.deviation) == (plain.mean, plain.deviation)
    indices = np.arange(12)
    expected, found = plain.validation_batch(indices), mixed.validation_batch(indices)
    assert found.inputs.equal(expected.inputs) and found.targets.equal(expected.targets)
    assert np.array_equal(mixed._images("train", indices), plain._images("train", indices))
    as_bytes = fed("mixup", "device").validation_batch(indices)
    assert as_bytes.targets.equal(expected.targets)


def test_made_of_what_is_open():
    with pytest.raises(NotImplementedError, match="see fed_dataset"):
        MixedImages.open(None, augment="none")
    assert MixedImages(open_data(SPEC, "none"), Mix("mixup", 0.2)).train_size == 40


def test_only_images_are_mixed(tmp_path):
    (tmp_path / "text.txt").write_text("to be or not to be " * 99)
    with pytest.raises(
        UserError,
        match=r"train\.mix=cutmix is for images that Arignote reads, not for Text: leave it at 'n",
    ):
        fed("cutmix", augment="none", spec=f"text:{tmp_path / 'text.txt'},length=16")
