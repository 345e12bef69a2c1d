"""What a folder of shards holds: its files, and the index that describes them.

    index.json                 this format's version, sizes, classes, mean, deviation, SHA-256s
    train-00000.bin ...        images, uint8 of shape (N, size, size, 3), nothing else
    train-labels.npy           int32 indices into the classes, shape (N,)
    validation-00000.bin ...   the same of validation
    validation-labels.npy

The index is written last: where there is one, all it names was whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from arignote.config.problems import one_line
from arignote.durable import file_sha256
from arignote.errors import DataError

INDEX, PROGRESS = "index.json", "progress.json"
"""What is prepared, and what a preparation that goes on has done so far."""
FORMAT: Final = "arignote-shards"
VERSION: Final = 1
CHANNELS = 3

_ANEW = "prepare the data anew with --force"

_FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Three = Field(min_length=CHANNELS, max_length=CHANNELS)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardFile(_Part):
    """A file of images."""

    file: _FileName
    images: Annotated[int, Field(ge=0)]
    sha256: str


class LabelFile(_Part):
    """A file of labels."""

    file: _FileName
    sha256: str


class SplitIndex(_Part):
    """The files of training, or of validation, in the order of their samples."""

    shards: tuple[ShardFile, ...]
    labels: LabelFile

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(shard.images for shard in self.shards)


class ShardIndex(_Part):
    """What `index.json` holds."""

    format: Literal["arignote-shards"] = FORMAT
    version: Literal[1] = VERSION
    size: Annotated[int, Field(ge=1)]
    """Pixels a side."""
    seed: int
    """Of the one shuffle of the training samples."""
    source: str
    """The digest of what was prepared: see `prepare.source.Source.digest`."""
    classes: tuple[str, ...]
    mean: Annotated[tuple[_Finite, ...], _Three]
    """Of each channel, over all training pixels (0..255)."""
    deviation: Annotated[tuple[_Positive, ...], _Three]
    """Inputs are divided by it."""
    train: SplitIndex
    validation: SplitIndex
    skipped: tuple[str, ...]
    """Source files that hold no whole image."""

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.size * self.size * CHANNELS

    @property
    def files(self) -> tuple[ShardFile | LabelFile, ...]:
        """All files but the index itself."""
        train, validation = self.train, self.validation
        return (*train.shards, train.labels, *validation.shards, validation.labels)


def read_index(folder: Path) -> ShardIndex:
    """The index of a prepared folder.

    Raises:
        DataError: there is none, or it is damaged, or of another version.
    """
    path = folder / INDEX
    if not folder.is_dir():
        raise DataError(f"no folder {folder}: name one that `arignote prepare` made")
    if (folder / PROGRESS).is_file() and not path.is_file():
        raise DataError(
            f"{folder} is not whole, its preparation was cut short: run `arignote prepare` again, "
            "it goes on"
        )
    try:
        found: Any = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): name a folder that `arignote prepare` made"
        ) from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}): {_ANEW}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise DataError(f"{path} is no index of shards: name a folder that `arignote prepare` made")
    if found.get("version") != VERSION:
        raise DataError(
            f"{path} has version {found.get('version')!r}, this Arignote reads {VERSION}: {_ANEW}"
        )
    try:
        return ShardIndex.model_validate(found)
    except ValidationError as error:
        raise DataError(f"{path}: {one_line(error, ShardIndex)}: {_ANEW}") from None


def check_shard(folder: Path, shard: ShardFile, image_bytes: int) -> None:
    """Check that a shard is there and has its size; its bytes are not read.

    Raises:
        DataError: it is missing, or has another size.
    """
    path, expected = folder / shard.file, shard.images * image_bytes
    size = _size(path)
    if size != expected:
        raise DataError(
            f"{path} holds {size:,} bytes, expected {expected:,}: copy it again, or {_ANEW}"
        )


def read_labels(folder: Path, split: SplitIndex, classes: int) -> npt.NDArray[np.int32]:
    """The labels of a split, (N,), mapped.

    Raises:
        DataError: they are missing, damaged, or do not fit to the index.
    """
    path = folder / split.labels.file
    _size(path)
    try:
        # Not np.load, which also opens archives, and they have no labels.
        labels = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path} is damaged ({reason}): copy it again, or {_ANEW}") from None
    if labels.dtype != np.int32 or labels.shape != (split.images,):
        raise DataError(
            f"{path} holds {labels.dtype} of shape {labels.shape}, expected int32 of shape "
            f"({split.images},): copy it again, or {_ANEW}"
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise DataError(
            f"{path} holds labels {labels.min()} ... {labels.max()}, expected 0 ... "
            f"{classes - 1}: copy it again, or {_ANEW}"
        )
    # A plain array: each look into an np.memmap would run Python code.
    return np.asarray(labels)


def damages(folder: Path, index: ShardIndex) -> Iterator[str]:
    """What is wrong with each of `index.files`, nothing if it is as it was written; reads them."""
    for file in index.files:
        try:
            if isinstance(file, ShardFile):
                check_shard(folder, file, index.image_bytes)
            same = file_sha256(folder / file.file) == file.sha256
            yield "" if same else f"{folder / file.file} is damaged: its SHA-256 is another"
        except DataError as error:
            yield str(error)
        except OSError as error:
            yield f"{folder / file.file} cannot be read ({error.strerror})"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}): copy it again, or {_ANEW}"
        ) from None
