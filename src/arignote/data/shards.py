"""Images that `arignote prepare` decoded once, mapped into memory."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from arignote.config.settings import Count
from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_folder
from arignote.data.augmentation.base import Augmentation
from arignote.data.augmentation.chain import apply_steps
from arignote.data.augmentation.crop import Crop
from arignote.data.augmentation.resized_crop import ResizedCrop
from arignote.data.base import Split
from arignote.data.draws import Bits, sample_bits
from arignote.data.images import ImageDataset
from arignote.data.pixels import Images
from arignote.data.shard_index import CHANNELS, read_index, read_labels
from arignote.data.sharding import Indices
from arignote.data.stages import show, stage
from arignote.data.stored_images import StoredImages
from arignote.data.windows import Size, Windows, drawn_windows, middle_windows
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
        self._stored_size = index.size
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

    @property
    def whole_size(self) -> Size:
        """As stored: see `ImageDataset.whole_size`."""
        return self._stored_size, self._stored_size

    def load_images(
        self, split: Split, indices: Indices, out: Images, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Copy each sample's window from its shard to `out`: see `ImageDataset.load_images`.

        Raises:
            DataError: a shard cannot be mapped.
        """
        size, whole = self._size, self.whole_size
        if split == "validation":
            self._copy(split, indices, middle_windows(len(indices), size, whole), out)
            return
        steps: Sequence[Augmentation] = self._steps
        if steps and isinstance(steps[0], Crop) and size == whole:
            super().load_images(split, indices, out, seed=seed, epoch=epoch)
            return
        bits = sample_bits(indices, seed=seed, epoch=epoch)
        if steps and isinstance(steps[0], ResizedCrop):
            self._cut(steps[0], indices, bits, out)
            steps = steps[1:]
        else:
            windows, steps = drawn_windows(steps, bits, size, whole)
            self._copy(split, indices, windows, out)
        if steps:
            with stage("augment"):
                out[:] = apply_steps(steps, out, bits)

    def load_whole(self, split: Split, indices: Indices, out: Images) -> None:
        """Copy all that is stored: see `ImageDataset.load_whole`.

        Raises:
            DataError: a shard cannot be mapped.
        """
        everything = middle_windows(len(indices), self.whole_size, self.whole_size)
        self._copy(split, indices, everything, out)

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
        images = np.empty((len(indices), *self._size, CHANNELS), np.uint8)
        windows = middle_windows(len(indices), self._size, self.whole_size)
        self._stored[split].copy(indices, windows, images)
        return images


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
