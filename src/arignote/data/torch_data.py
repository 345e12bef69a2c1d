"""Map-style data sets of PyTorch, as users have them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, default_collate

from arignote.config.spec import Spec
from arignote.data.base import Batch, Dataset, Split
from arignote.data.draws import sample_bits
from arignote.data.sharding import Indices
from arignote.errors import DataError, UserError


class TorchData(Dataset):
    """Two `torch.utils.data.Dataset`s, or what has `__getitem__` and `__len__`, as a data set.

    An item is a pair of an input and a class number, each a tensor, an array or a number. Floats,
    bytes and booleans become float32, other inputs int64; targets int64. Items that draw random
    numbers (by torch on the CPU, NumPy's global generator or `random`) draw what (seed, epoch,
    index) decides, in validation what index decides; the generators are put back behind them. Of
    a `DataLoader` only its data set is used.
    """

    sample_name = "samples"

    def __init__(self, train: Any, validation: Any, *, classes: Iterable[object] = ()) -> None:
        """Look at the first item; `classes` are names, by default `train.classes`.

        Raises:
            UserError: there are no names, or a data set cannot be asked for an item by number.
            DataError: a data set is empty, or its first item is not of the form.
        """
        self._splits: dict[Split, Any] = {
            "train": _map_style("train", train),
            "validation": _map_style("validation", validation),
        }
        self.train_size, self.validation_size = map(len, self._splits.values())
        self.classes = _names(classes, getattr(self._splits["train"], "classes", ()))
        self._shapes: tuple[torch.Size, torch.Size] | None = None
        with _generators_kept():
            value, target = self._item("train", 0, seed=0, epoch=0)
        self._shapes = value.shape, target.shape
        self.sample_shape = tuple(value.shape)

    @classmethod
    def open(cls, spec: Spec, *, augment: str) -> NoReturn:
        """It has no spec."""
        raise NotImplementedError("TorchData is made from data sets, in the data() of a model")

    def train_batch(self, indices: Indices, *, seed: int, epoch: int) -> Batch:
        """See `Dataset.train_batch`; what an item raises is passed on.

        Raises:
            DataError: an item is not of the form, or of another shape than the first.
        """
        return self._batch("train", indices, seed=seed, epoch=epoch)

    def validation_batch(self, indices: Indices) -> Batch:
        """See `Dataset.validation_batch`; what an item raises is passed on.

        Raises:
            DataError: an item is not of the form, or of another shape than the first.
        """
        return self._batch("validation", indices, seed=0, epoch=0)

    def _batch(self, split: Split, indices: Indices, *, seed: int, epoch: int) -> Batch:
        with _generators_kept():
            items = [self._item(split, i, seed=seed, epoch=epoch) for i in indices.tolist()]
        inputs, targets = default_collate(items)
        # Pixels and flags are numbers to compute with; other whole numbers are tokens.
        is_number = inputs.is_floating_point() or inputs.dtype in (torch.uint8, torch.bool)
        return Batch(inputs.to(torch.float32 if is_number else torch.int64), targets.long())

    def _item(
        self, split: Split, index: int, *, seed: int, epoch: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Input and target of one item, after a check of both."""
        _seed_generators(int(sample_bits(np.array([index]), seed=seed, epoch=epoch)[0]))
        got = self._splits[split][index]
        item = f"item {index} of the {split} set"
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            count = f" of {len(got)}" if isinstance(got, (tuple, list)) else ""
            raise DataError(
                f"{item} is a {type(got).__name__}{count}, expected a pair (input, target)"
            )
        value, target = (_tensor(part, item) for part in got)
        if target.is_floating_point():
            raise DataError(
                f"{item} has a target of {_kind(target)}, expected a class number: for other "
                "targets derive from arignote.Dataset"
            )
        if self._shapes not in (None, (value.shape, target.shape)):
            raise DataError(
                f"{item} has the shapes {_sides(value.shape, target.shape)}, the first one "
                f"{_sides(*self._shapes)}: bring all to one, by a transform that resizes or pads"
            )
        if not target.ndim and target >= len(self.classes):
            raise DataError(
                f"{item} has target {target.item()}, expected 0..{len(self.classes) - 1}: name all "
                "classes in classes=..."
            )
        return value, target


def _map_style(split: Split, given: Any) -> Any:
    """The data set, also where its loader is given."""
    dataset: Any = given.dataset if isinstance(given, DataLoader) else given
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset):
        raise UserError(
            f"TorchData: the {split} set ({kind}) is an IterableDataset, whose items have no "
            "numbers, and by these workers share them out: give one with __getitem__ and __len__"
        )
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise UserError(
            f"TorchData: the {split} set ({kind}) lacks __getitem__ or __len__: give a "
            "torch.utils.data.Dataset that has both"
        )
    if not len(dataset):
        raise DataError(f"TorchData: the {split} set ({kind}) is empty: give it an item")
    return dataset


def _names(classes: Any, default: Iterable[object]) -> tuple[str, ...]:
    names = () if isinstance(classes, (str, int)) else tuple(classes) or tuple(default)
    if not names:
        raise UserError(
            f"TorchData: got classes={classes!r}, expected a name for each class, such as "
            'classes=["cat", "dog"] or classes=range(10)'
        )
    return tuple(map(str, names))


def _tensor(part: Any, item: str) -> torch.Tensor:
    """An input or target as a tensor."""
    if isinstance(part, torch.Tensor) and not part.is_complex():
        return part
    if isinstance(part, (bool, int, float)):
        return torch.tensor(part)
    if isinstance(part, (np.ndarray, np.generic)) and part.dtype.kind in "biuf":
        # A copy: torch warns of arrays that must not be written, and knows no foreign bytes.
        return torch.from_numpy(np.array(part, part.dtype.newbyteorder("="), order="C"))
    if isinstance(part, Image.Image):
        raise DataError(
            f"{item} holds a PIL image, expected a tensor: add torchvision's ToTensor() to the "
            "transform of the data set"
        )
    raise DataError(f"{item} holds {_kind(part)}, expected a tensor, an array or a number")


def _kind(part: Any) -> str:
    return str(getattr(part, "dtype", type(part).__name__)).removeprefix("torch.")


def _sides(value: torch.Size, target: torch.Size) -> str:
    return f"{tuple(value)} and {tuple(target)}"


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Put back the generators that a user's items draw from: the model draws from them too."""
    states = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _seed_generators(bits: int) -> None:
    # Not torch.manual_seed, which seeds the generators of all devices too.
    torch.default_generator.manual_seed(bits)
    np.random.seed(bits % 2**32)
    random.seed(bits)
