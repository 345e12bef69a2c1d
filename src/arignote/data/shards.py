"""Images that `arignote prepare` decoded once, mapped into memory."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from arignote.config.settings import Count
from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_folder
from arignote.data.augmentation.base import Augmentation
from arignote.data.augmentation.chain import apply_steps
from arignote.data.augmentation.crop import Crop, corners
from arignote.data.augmentation.mirror import Mirror, mirrored
from arignote.data.augmentation.resized_crop import ResizedCrop
from arignote.data.base import Split
from arignote.data.draws import Bits, sample_bits
from arignote.data.images import ImageDataset
from arignote.data.pixels import Images
from arignote.data.shard_index import CHANNELS, read_index, read_labels
from arignote.data.sharding import Indices
from arignote.data.stages import show, stage
from arignote.data.stored_images import StoredImages, Windows
from arignote.errors import DataError, UserError

_FORM = "shards:DIR[,size=N]"
_WINDOWS = {256: 224}
_OTHER_FILES = 512
"""How many files a process may need to keep open beside the shards."""


class ShardsOptions(BaseModel):
    """Pixels a side of a sample; 0: see `Shards`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: Count = 0


class Shards(ImageDataset):
    """`shards:DIR`: samples (3, size, size) of what `arignote prepare SRC DIR` stored.

    Without `size` samples are as large as stored, but 224 of 256, as the papers on ImageNet
    have it. A smaller sample is a window of the stored image: in training, where `augment` says
    crop, a random one, else the middle. (Where nothing is cut off, a crop reflects the borders,
    as with all image sets.) A resized-crop is cut out of all that is stored. Mean and deviation
    are those of all stored training pixels.
    """

    def __init__(self, folder: Path, options: ShardsOptions, *, augment: str) -> None:
        """Read the index; map the labels; no image is read.

        Raises:
            UserError: `size` is larger than what is stored.
            DataError: a file is missing, or not what the index says.
        """
        index = read_index(folder)
        size = options.size or _WINDOWS.get(index.size, index.size)
        if size > index.size:
            raise UserError(
                f"data set shards: got size={size}, {folder} holds images of {index.size}: use at "
                f"most that, or prepare them anew with --size {size}"
            )
        _allow_open_files(folder, len(index.train.shards) + len(index.validation.shards))
        self._stored: dict[Split, StoredImages] = {
            "train": StoredImages(folder, index.train, index.size),
            "validation": StoredImages(folder, index.validation, index.size),
        }
        self._room = index.size - size
        self.skipped = index.skipped
        super().__init__(
            classes=index.classes,
            sample_shape=(CHANNELS, size, size),
            train_labels=read_labels(folder, index.train, len(index.classes)),
            validation_labels=read_labels(folder, index.validation, len(index.classes)),
            augment=augment,
        )
        self.learn({"mean": index.mean, "deviation": index.deviation})

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> Shards:
        """Open `shards:DIR[,size=N]`.

        Raises:
            UserError: the spec is not of that form, or `size` is larger than what is stored.
            DataError: a file is missing, or not what the index says.
        """
        folder = expect_folder(spec, _FORM)
        return cls(folder, parse_options(ShardsOptions, spec, "data set shards"), augment=augment)

    def load_images(
        self, split: Split, indices: Indices, out: Images, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Copy each sample's window from its shard to `out`: see `ImageDataset.load_images`.

        Raises:
            DataError: a shard cannot be mapped.
        """
        if split == "validation":
            self._copy(split, indices, self._middle(len(indices)), out)
            return
        steps = self._steps
        if steps and isinstance(steps[0], Crop) and not self._room:
            super().load_images(split, indices, out, seed=seed, epoch=epoch)
            return
        bits = sample_bits(indices, seed=seed, epoch=epoch)
        if steps and isinstance(steps[0], ResizedCrop):
            self._cut(steps[0], indices, bits, out)
            steps = steps[1:]
        else:
            windows, steps = self._windows(bits)
            self._copy(split, indices, windows, out)
        if steps:
            with stage("augment"):
                out[:] = apply_steps(steps, out, bits)

    def _windows(self, bits: Bits) -> tuple[Windows, tuple[Augmentation, ...]]:
        """What is copied of samples that have `bits` (N,), and the steps that remain then."""
        windows, steps = self._middle(len(bits)), self._steps
        if steps and isinstance(steps[0], Crop):
            y, x = corners((self._room, self._room), bits)
            windows, steps = windows._replace(y=y, x=x), steps[1:]
        if steps and isinstance(steps[0], Mirror):
            windows, steps = windows._replace(mirrored=mirrored(bits)), steps[1:]
        return windows, steps

    def _copy(self, split: Split, indices: Indices, windows: Windows, out: Images) -> None:
        with stage("copy"):
            self._stored[split].copy(indices, windows, out)

    def _cut(self, crop: ResizedCrop, indices: Indices, bits: Bits, out: Images) -> None:
        stored, size = self._stored["train"], (out.shape[1], out.shape[2])
        with stage("augment"):
            for target, index, own in zip(out, indices.tolist(), bits.tolist(), strict=True):
                target[:] = crop.cut(stored.image(index), own, size)
            show("")

    def _images(self, split: Split, indices: Indices) -> Images:
        images = np.empty((len(indices), *self.sample_shape[1:], CHANNELS), np.uint8)
        self._stored[split].copy(indices, self._middle(len(indices)), images)
        return images

    def _middle(self, count: int) -> Windows:
        corner = np.full(count, self._room // 2)
        return Windows(corner, corner, np.zeros(count, bool))


def _allow_open_files(folder: Path, shards: int) -> None:
    """Let this process keep a file open for each shard: a mapped file counts as open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = shards + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise DataError(
            f"{folder} has {shards} shards, and a process may keep {hard} files open: allow "
            f"{needed} (ulimit -Hn, as root)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
