"""What is kept of a data set, and what stands for it when it is gone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from arignote.data.base import Batch, Dataset
from arignote.data.card import AbsentData, DataCard
from arignote.data.open import open_data


class Tokens(Dataset):
    """Pairs of tokens, without mean and deviation."""

    classes = vocabulary = ("a", "b")
    sample_shape, train_size, validation_size = (2,), 4, 0

    @classmethod
    def open(cls, spec, *, augment):
        raise NotImplementedError

    def train_batch(self, indices, *, seed, epoch):
        tokens = torch.zeros(len(indices), 2, dtype=torch.int64)
        return Batch(tokens, tokens)

    def validation_batch(self, indices):
        raise IndexError("there are none")


def test_of_images():
    data = open_data("synthetic:3x4x5,7,train=20,validation=5", "none")
    card = DataCard.of(data)
    assert card.classes == tuple("0123456")
    assert (card.sample_shape, card.dtype, card.vocabulary) == ((3, 4, 5), "float32", ())
    assert card.torch_dtype == torch.float32
    pixels = data._images("train", np.arange(20)).reshape(-1, 3)
    assert card.mean == pytest.approx(pixels.mean(0))
    assert card.deviation == pytest.approx(pixels.std(0))


def test_of_tokens():
    card = DataCard.of(Tokens())
    assert card == DataCard(("a", "b"), (2,), "int64", ("a", "b"), (), ())


def test_what_a_users_own_data_leaves_out_is_empty():
    class Points:
        """Not even a `Dataset`."""

        def train_batch(self, indices, *, seed, epoch):
            return Batch(torch.zeros(len(indices), 3, dtype=torch.float64), torch.zeros(1))

    card = DataCard.of(Points())
    assert card == DataCard((), (3,), "float64", (), (), ())
    assert not card.is_language


def test_whether_targets_are_tokens():
    assert DataCard.of(Tokens()).is_language
    assert not DataCard(("good", "bad"), (9,), "int64", ("a", "b"), (), ()).is_language


def test_it_survives_a_file():
    card = DataCard.of(open_data("synthetic:3x4x5,7,train=20,validation=5", "none"))
    assert DataCard.load(json.loads(json.dumps(card.as_dict()))) == card


def test_absent_data_knows_its_words_only():
    card = DataCard.of(Tokens())
    data = AbsentData(card)
    assert (data.classes, data.vocabulary, data.sample_shape) == (("a", "b"), ("a", "b"), (2,))
    for use in (
        lambda: data.train_batch(np.zeros(1, np.int64), seed=0, epoch=0),
        lambda: data.validation_batch(np.zeros(1, np.int64)),
        lambda: AbsentData.open(None, augment="none"),
    ):
        with pytest.raises(NotImplementedError, match="the data is absent"):
            use()
