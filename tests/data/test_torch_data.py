"""TorchData: items as batches, random numbers that are each item's own, and what is refused."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from arignote import TorchData
from arignote.errors import DataError, UserError


class Items:
    """Any items; nothing of torch's is needed."""

    def __init__(self, *items):
        self.items = items

    def __getitem__(self, index):
        return self.items[index]

    def __len__(self):
        return len(self.items)


class Drawn(Items):
    """Input: a number of each generator; target: the index."""

    def __init__(self, count):
        super().__init__(*range(count))

    def __getitem__(self, index):
        drawn = torch.rand(1, dtype=torch.float64).item(), np.random.rand(), random.random()
        return torch.tensor(drawn), index


class Failing(Drawn):
    def __getitem__(self, index):
        value, target = super().__getitem__(index)
        if index == 2:
            raise ZeroDivisionError("no light in picture 2")
        return value, target


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


PAIR = (torch.zeros(2), 0)


def made(*items, classes=range(10)):
    return TorchData(Items(*items), Items(PAIR), classes=classes)


def test_tensors():
    inputs, targets = torch.rand(6, 3, 4, 4, dtype=torch.float64), torch.arange(6) % 3
    train = TensorDataset(inputs, targets.int())
    data = TorchData(train, Subset(train, [5, 1]), classes=["cat", "dog", "elk"])
    assert (data.train_size, data.validation_size) == (6, 2)
    assert (data.sample_shape, data.sample_name) == ((3, 4, 4), "samples")
    assert data.classes == ("cat", "dog", "elk")
    batch = data.train_batch(np.array([4, 0]), seed=0, epoch=0)
    assert batch.inputs.equal(inputs[[4, 0]].float())
    assert (batch.targets.tolist(), batch.targets.dtype) == ([1, 0], torch.int64)
    batch.inputs.zero_()
    assert data.validation_batch(np.arange(2)).inputs.equal(inputs[[5, 1]].float())


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (torch.ones(2, dtype=torch.bfloat16), torch.float32),
        (torch.ones(2, dtype=torch.uint8), torch.float32),
        (torch.tensor([True, True]), torch.float32),
        (torch.ones(2, dtype=torch.int32), torch.int64),
        (np.ones(2), torch.float32),
        (np.ones(2, ">f4"), torch.float32),
        (np.ones(4)[::-2], torch.float32),
        (np.broadcast_to(np.float32(1), 2), torch.float32),
        (np.ones(2, np.int16), torch.int64),
        (1.0, torch.float32),
        (1, torch.int64),
        (np.float64(1), torch.float32),
    ],
)
def test_kinds_of_inputs(value, dtype):
    data = made((value, np.uint8(3)), (value, 3))
    assert data.sample_shape == np.shape(value)
    batch = data.train_batch(np.arange(2), seed=0, epoch=0)
    assert (batch.inputs.dtype, batch.inputs.shape) == (dtype, (2, *np.shape(value)))
    assert (batch.inputs == 1).all()
    assert batch.targets.tolist() == [3, 3]


def test_targets_with_axes():
    mask = np.array([[0, 255], [1, 0]], np.uint8)
    data = made((np.zeros((1, 2, 2)), mask), (np.zeros((1, 2, 2)), mask), classes=("no", "yes"))
    targets = data.train_batch(np.array([1]), seed=0, epoch=0).targets
    assert (targets.tolist(), targets.dtype) == ([mask.tolist()], torch.int64)


def test_names_of_the_classes():
    train = Items(PAIR)
    train.classes = ["cat", "dog"]
    assert TorchData(train, train).classes == ("cat", "dog")
    assert TorchData(train, train, classes=range(3)).classes == ("0", "1", "2")
    for classes in ((), 10, "cats", []):
        message = r"got classes=.*, expected a name for each class, such as .*range\(10\)"
        with pytest.raises(UserError, match=message):
            TorchData(Items(PAIR), Items(PAIR), classes=classes)


def test_random_numbers_are_those_of_seed_epoch_and_index():
    data = TorchData(Drawn(5), Drawn(3), classes=range(5))
    batch = data.train_batch(np.array([3, 0, 3]), seed=1, epoch=2).inputs
    assert batch[0].equal(batch[2])
    assert batch.unique().numel() == 6
    assert data.train_batch(np.array([0]), seed=1, epoch=2).inputs[0].equal(batch[1])
    for seed, epoch in ((1, 3), (2, 2)):
        other = data.train_batch(np.array([3, 0]), seed=seed, epoch=epoch).inputs
        assert (other != batch[:2]).all()
    once, again = (data.validation_batch(np.arange(3)).inputs for _ in range(2))
    assert once.equal(again)


def test_the_generators_of_the_model_are_left_alone():
    def draw():
        return torch.rand(1).item(), np.random.rand(), random.random()

    def seed():
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)

    seed()
    expected = draw()
    seed()
    data = TorchData(Failing(5), Drawn(3), classes=range(5))
    data.train_batch(np.arange(2), seed=0, epoch=0)
    data.validation_batch(np.arange(2))
    with pytest.raises(ZeroDivisionError):
        data.train_batch(np.arange(5), seed=0, epoch=0)
    assert draw() == expected


def test_what_an_item_raises_is_passed_on():
    data = TorchData(Failing(5), Drawn(3), classes=range(5))
    with pytest.raises(ZeroDivisionError, match=r"^no light in picture 2$") as caught:
        data.train_batch(np.arange(5), seed=0, epoch=0)
    assert caught.value.__cause__ is None and caught.value.__context__ is None
    assert caught.traceback[-1].name == "__getitem__"


def test_a_loader_stands_for_its_data_set():
    train = TensorDataset(torch.arange(6.0)[:, None], torch.arange(6))
    loader = DataLoader(train, batch_size=4, shuffle=True, drop_last=True)
    data = TorchData(loader, loader, classes=range(6))
    assert (data.train_size, data.sample_shape) == (6, (1,))
    assert data.train_batch(np.arange(6), seed=0, epoch=0).inputs.flatten().tolist() == [*range(6)]


@pytest.mark.parametrize("wrap", [lambda data: data, DataLoader])
def test_a_stream_is_refused(wrap):
    message = r"train set \(Stream\) is an IterableDataset, whose items have no numbers"
    with pytest.raises(UserError, match=message):
        TorchData(wrap(Stream()), Items(PAIR), classes=range(2))
    with pytest.raises(UserError, match=r"validation set \(Stream\) is an IterableDataset"):
        TorchData(Items(PAIR), wrap(Stream()), classes=range(2))


@pytest.mark.parametrize("given", [3, {1}, iter([])])
def test_what_has_no_items(given):
    with pytest.raises(UserError, match=r"the train set \(.*\) lacks __getitem__ or __len__: give"):
        TorchData(given, Items(PAIR), classes=range(2))


def test_an_empty_set():
    with pytest.raises(DataError, match=r"the validation set \(Items\) is empty: give it an item"):
        TorchData(Items(PAIR), Items(), classes=range(2))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (torch.zeros(2), r"item 0 of the train set is a Tensor, expected a pair \(input, target\)"),
        ((1, 2, 3), "item 0 of the train set is a tuple of 3, expected a pair"),
        ({"image": 1, "label": 2}, "item 0 of the train set is a dict, expected a pair"),
        (
            (Image.new("L", (2, 2)), 0),
            r"holds a PIL image, expected a tensor: add torchvision's To",
        ),
        (("text", 0), "item 0 of the train set holds str, expected a tensor, an array or a number"),
        ((np.array(["a"]), 0), "holds <U1, expected a tensor, an array or a number"),
        ((torch.zeros(2, dtype=torch.complex64), 0), "holds complex64, expected a tensor"),
        ((torch.zeros(2), None), "holds NoneType, expected"),
        (
            (torch.zeros(2), 0.5),
            "a target of float32, expected a class number: for other targets d",
        ),
        ((torch.zeros(2), 10), r"has target 10, expected 0\.\.9: name all classes in classes="),
    ],
)
def test_items_that_are_refused(item, message):
    with pytest.raises(DataError, match=message):
        made(item)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            (torch.zeros(3), 0),
            r"item 1 of the train set has the shapes \(3,\) and \(\), the first o",
        ),
        ((torch.zeros(2), [0]), "item 1 of the train set holds list"),
        (
            (torch.zeros(2), np.array([0])),
            r"\(2,\) and \(1,\), the first one \(2,\) and \(\): bring",
        ),
    ],
)
def test_items_that_differ_from_the_first(item, message):
    data = made(PAIR, item)
    with pytest.raises(DataError, match=message):
        data.train_batch(np.arange(2), seed=0, epoch=0)


def test_it_has_no_spec():
    with pytest.raises(NotImplementedError, match=r"TorchData is made from data sets, in the data"):
        TorchData.open(None, augment="none")


NET = """
import torch
from torch import nn
from torch.utils.data import Dataset
from arignote import Model, TorchData


class Noisy(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.full((4,), index / 40) + torch.rand(4) / 10, index % 2


class Net(Model):
    def data(self):
        return TorchData(Noisy(), Noisy(), classes=["even", "odd"])

    def build(self):
        return nn.Linear(4, len(self.dataset.classes))
"""


def test_a_run_on_it_goes_on_exactly_where_it_was_stopped(train, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    settings = {"run.model": f"{tmp_path / 'net.py'}:Net", "train.epochs": 2}
    settings["train.batch_size"] = 10
    whole = train(1, settings, folder="whole")
    train(1, settings, folder="parts", stop_at=6)
    assert train(1, settings, folder="parts", resume=True).sha == whole.sha
