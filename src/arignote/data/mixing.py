"""Training images that are mixed with others, and so are their targets: mixup and cutmix.

    mixup     x = round(s x1 + (1 - s) x2)
    cutmix    x = x2 inside a box, x1 outside; s = 1 - box / image
    both      y = s onehot(y1) + (1 - s) onehot(y2)

s (`share`) is drawn from Beta(alpha, alpha). mixup: Zhang et al. 2017, arXiv 1710.09412. cutmix:
Yun et al. 2019, arXiv 1905.04899, whose box has the sides sqrt(1 - s) H and sqrt(1 - s) W, rounded
down, and any pixel as its centre; what is outside the image is cut off, and s is what is left.

The papers mix a batch with itself in another order. Here the partner of a sample is any training
sample (itself too), which (seed, epoch, index) decides as it does s and the box: so n workers see
what one worker with n times the batch sees, whoever loads it. The partner looks as it does in this
epoch where it is a sample itself. mixup rounds to whole values (half to even), since images are
bytes until they are normalised: an error of at most 1/2 of 255.
"""

from __future__ import annotations

import math
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from arignote.config.mix_options import Mix
from arignote.config.spec import Spec
from arignote.data.arrays import Targets
from arignote.data.base import Split
from arignote.data.draws import Bits, Draws, sample_bits
from arignote.data.images import ImageDataset
from arignote.data.pixels import Images
from arignote.data.sharding import Indices
from arignote.data.stages import stage


class Plan(NamedTuple):
    """What N samples are mixed with, and how."""

    partners: Indices
    """(N,)."""
    shares: npt.NDArray[np.float64]
    """(N,): s, of the sample itself, 0 ... 1."""
    centres: npt.NDArray[np.float64]
    """(N, 2): of cutmix's box, y and x, in heights and widths from 0 to below 1."""


def draw_plan(bits: Bits, *, samples: int, alpha: float) -> Plan:
    """The plan of samples that have `bits` (N,), out of so many training samples."""
    partners = np.empty(len(bits), np.int64)
    shares, centres = np.empty(len(bits)), np.empty((len(bits), 2))
    for place, own in enumerate(bits.tolist()):
        draws = Draws(own, "mix")
        partners[place] = draws.below(samples)
        shares[place] = symmetric_beta(draws.uniform(0, 1), draws.uniform(0, 1), alpha)
        centres[place] = draws.uniform(0, 1), draws.uniform(0, 1)
    return Plan(partners, shares, centres)


def symmetric_beta(u: float, v: float, alpha: float) -> float:
    """A number from Beta(alpha, alpha), of two uniform ones in [0, 1).

        1/2 + c sqrt(1 - w) / (2 sqrt(w + c^2 (1 - w))),    w = u^(1 / alpha),  c = cos(2 pi v)

    Devroye 1996, Random variate generation in one line of code: t is Bailey's Student t of 2 alpha
    degrees of freedom, and t / sqrt(2 alpha + t^2) is Beta's, stretched to -1 ... 1. Exact for
    every alpha > 0, without a loop; and it stays the same whatever NumPy's generators become.
    """
    w, c = u ** (1 / alpha), math.cos(2 * math.pi * v)
    # No division by zero: no float has the cosine 0.
    return 0.5 + 0.5 * c * math.sqrt(1 - w) / math.sqrt(w + c * c * (1 - w))


def boxes(plan: Plan, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """cutmix's boxes in images of `size` (H, W): (N, 4), first and last + 1 of rows, of columns."""
    sides = np.array(size, np.float64)
    lengths = np.floor(sides * np.sqrt(1 - plan.shares)[:, None]).astype(np.int64)
    first = np.floor(sides * plan.centres).astype(np.int64) - lengths // 2
    ends = np.stack([first, first + lengths], axis=-1)
    clipped: npt.NDArray[np.int64] = np.clip(ends, 0, np.array(size)[:, None])
    return clipped.reshape(-1, 4)


def shares_outside(boxes: npt.NDArray[np.int64], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """The share of each image of `size` (H, W) that is outside its box: (N,), 0 ... 1."""
    top, bottom, left, right = boxes.T
    shares: npt.NDArray[np.float64] = 1 - (bottom - top) * (right - left) / math.prod(size)
    return shares


def mixup_(images: Images, others: Images, shares: npt.NDArray[np.float64]) -> None:
    """Change `images` (N, H, W, C) into their mean with `others`; `shares` (N,) are theirs."""
    # One at a time, so that the floats stay in the cache.
    for image, other, share in zip(images, others, shares.tolist(), strict=True):
        mixed = image * np.float32(share)
        mixed += other * np.float32(1 - share)
        image[:] = np.rint(mixed)


def cutmix_(images: Images, others: Images, boxes: npt.NDArray[np.int64]) -> None:
    """Put into `images` (N, H, W, C) what `others` have in `boxes` (N, 4)."""
    for image, other, (top, bottom, left, right) in zip(images, others, boxes, strict=True):
        image[top:bottom, left:right] = other[top:bottom, left:right]


def soften(
    labels: npt.NDArray[np.integer],
    others: npt.NDArray[np.integer],
    shares: npt.NDArray[np.float64],
    out: Targets,
) -> None:
    """Write class probabilities (N, K): `shares` (N,) of `labels` (N,), the rest of `others`."""
    places = np.arange(len(labels))
    out[:] = 0
    out[places, labels] = shares
    # Added: both may have the same label.
    out[places, others] += 1 - shares


class MixedImages(ImageDataset):
    """A set of images whose training samples are mixed with others of it.

    Training targets are class probabilities (N, classes) float32. Each sample costs the loading of
    two.
    """

    def __init__(self, images: ImageDataset, mix: Mix) -> None:
        everything: dict[Split, Indices] = {
            "train": np.arange(images.train_size),
            "validation": np.arange(images.validation_size),
        }
        channels, height, width = images.sample_shape
        super().__init__(
            classes=images.classes,
            sample_shape=(channels, height, width),
            train_labels=images.labels("train", everything["train"]),
            validation_labels=images.labels("validation", everything["validation"]),
            augment="none",
        )
        self.learn(images.known())
        self._plain, self._mix = images, mix

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> NoReturn:
        """They are made of a data set that is open."""
        raise NotImplementedError("see fed_dataset")

    def new_targets(self, split: Split, count: int) -> Targets:
        """Room for class probabilities (count, classes) where `split` is mixed."""
        if split == "validation":
            return super().new_targets(split, count)
        return np.empty((count, len(self.classes)), np.float32)

    def load_images(
        self, split: Split, indices: Indices, out: Images, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write mixed images: see `ImageDataset.load_images`.

        Raises:
            DataError: an image, or its partner, cannot be read.
        """
        self._plain.load_images(split, indices, out, seed=seed, epoch=epoch)
        if split == "validation":
            return
        plan = self._plan(indices, seed=seed, epoch=epoch)
        others = np.empty_like(out)
        self._plain.load_images("train", plan.partners, others, seed=seed, epoch=epoch)
        with stage("augment"):
            if self._mix.name == "mixup":
                mixup_(out, others, plan.shares)
            else:
                cutmix_(out, others, boxes(plan, self._size))

    def write_targets(
        self, split: Split, indices: Indices, out: Targets, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write the targets of the samples as `load_images` mixes them."""
        if split == "validation":
            super().write_targets(split, indices, out)
            return
        plan = self._plan(indices, seed=seed, epoch=epoch)
        shares = plan.shares
        if self._mix.name == "cutmix":
            shares = shares_outside(boxes(plan, self._size), self._size)
        soften(self.labels("train", indices), self.labels("train", plan.partners), shares, out)

    def _images(self, split: Split, indices: Indices) -> Images:
        return self._plain._images(split, indices)

    def _plan(self, indices: Indices, *, seed: int, epoch: int) -> Plan:
        bits = sample_bits(indices, seed=seed, epoch=epoch)
        return draw_plan(bits, samples=self.train_size, alpha=self._mix.alpha)
