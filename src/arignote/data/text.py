"""Any UTF-8 text as windows of tokens, for language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from arignote.config.spec import Spec, parse_options
from arignote.data.arguments import expect_arguments
from arignote.data.arrays import ArrayDataset, Arrays, Targets
from arignote.data.augmentation.chain import refuse_augmentation
from arignote.data.base import Split
from arignote.data.draws import sample_bits
from arignote.data.sharding import Indices
from arignote.data.vocabulary import BYTES
from arignote.errors import DataError

_FORM = "text:FILE[,level=char|byte][,length=64][,validation=0.1]"
_CODE_POINTS = 0x110000


class TextOptions(BaseModel):
    """What a token is, how many are in a sample, and which share validates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Literal["char", "byte"] = "char"
    length: Annotated[int, Field(ge=1, le=10**6)] = 64
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1


class Text(ArrayDataset):
    """`text:FILE`: samples are windows of `length` tokens, targets the same shifted by one.

    A token is a character (the sorted set of those in the file) or a byte (256). The first
    1 - `validation` of the file trains, the rest validates. Training windows follow each other
    without a gap from an offset in range(length) that is drawn from (seed, epoch) alone: each
    sample once an epoch, other cuts in every epoch, whoever asks. There is one window less than
    would fit, so that their number does not depend on the offset.
    """

    sample_name = "sequences"
    input_type = np.int64

    def __init__(self, path: Path, options: TextOptions) -> None:
        """Read the file.

        Raises:
            DataError: it cannot be read, is no UTF-8, or is too short.
        """
        tokens, self.classes = _read(path, options.level)
        self.vocabulary = self.classes
        length = options.length
        self.sample_shape = (length,)
        cut = int(len(tokens) * (1 - options.validation))
        self._train, self._validation = tokens[:cut], tokens[cut:]
        self.train_size = len(self._train) // length - 1
        self.validation_size = (len(self._validation) - 1) // length
        if self.train_size < 1 or self.validation_size < 1:
            raise DataError(
                f"{path}: {len(self._train):,} tokens to train on and {len(self._validation):,} to "
                f"validate, expected at least {2 * length:,} and {length + 1:,} for windows of "
                f"length={length}: use a longer text or a smaller length"
            )

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> Text:
        """Open `text:FILE[,level=char|byte][,length=64][,validation=0.1]`.

        Raises:
            UserError: the spec is not of that form, or `augment` is not none.
            DataError: the file cannot be read, is no UTF-8, or is too short.
        """
        (name,) = expect_arguments(spec, 1, _FORM)
        options = parse_options(TextOptions, spec, "data set text")
        refuse_augmentation(augment, "text")
        return cls(Path(name), options)

    def new_targets(self, split: Split, count: int) -> Targets:
        """Room for a token for each of the samples': (count, length)."""
        return np.empty((count, *self.sample_shape), np.int64)

    def load(
        self, split: Split, indices: Indices, out: Arrays, *, seed: int = 0, epoch: int = 0
    ) -> None:
        """Write windows `indices` (N,): inputs and targets, both (N, length).

        Those of training begin where (seed, epoch) decides, the others at their part's start.
        """
        train = split == "train"
        tokens = self._train if train else self._validation
        offset = self._offset(seed=seed, epoch=epoch) if train else 0
        length = self.sample_shape[0]
        places = (offset + indices * length)[:, None] + np.arange(length + 1)
        windows = tokens[places]
        out.inputs[:], out.targets[:] = windows[:, :-1], windows[:, 1:]

    def _offset(self, *, seed: int, epoch: int) -> int:
        """Where the first training window of an epoch begins, in tokens."""
        bits = sample_bits(np.zeros(1, np.int64), seed=seed, epoch=epoch)
        # 64 bits, so the bias of a modulus is below 1e-13 for any length.
        return int(bits[0] % np.uint64(self.sample_shape[0]))


def read_utf8(path: Path, advice: str) -> str:
    """The text of a file; `advice` says what to do where it is no UTF-8.

    Raises:
        DataError: it cannot be read, or is no UTF-8.
    """
    content = _read_bytes(path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}: "
            f"{advice}"
        ) from None


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check the path") from None


def _read(path: Path, level: str) -> tuple[npt.NDArray[np.integer], tuple[str, ...]]:
    """The tokens of a file, shape (T,), and the names of the classes."""
    if level == "byte":
        content = np.frombuffer(_read_bytes(path), np.uint8)
        return content, BYTES
    text = read_utf8(path, "convert it, or use level=byte")
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    # By a table of all characters there are: sorting a large text would take much longer.
    is_there = np.zeros(_CODE_POINTS, bool)
    is_there[codes] = True
    alphabet = np.flatnonzero(is_there)
    kind: type[np.integer] = np.uint8 if len(alphabet) <= 256 else np.int32
    numbers: npt.NDArray[np.integer] = np.zeros(_CODE_POINTS, kind)
    numbers[alphabet] = np.arange(len(alphabet))
    return numbers[codes], tuple(chr(code) for code in alphabet)
