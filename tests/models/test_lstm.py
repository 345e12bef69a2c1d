"""lstm: the mean over the words that are there, its initial weights, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from arignote.errors import UserError
from arignote.models.lstm import LSTMModule


def module() -> LSTMModule:
    torch.manual_seed(0)
    made = LSTMModule(9, 3, width=8).eval()
    torch.nn.init.normal_(made.out.weight)
    return made


def test_padding_changes_nothing() -> None:
    words = torch.tensor([[4, 2, 8, 3]])
    padded = torch.nn.functional.pad(words, (0, 5))
    made = module()
    torch.testing.assert_close(made(words), made(padded))
    assert not torch.allclose(made(words), made(words[:, :3]), atol=1e-4)


def test_the_mean_is_over_the_words() -> None:
    made, words = module(), torch.tensor([[4, 2, 8, 0, 0], [1, 0, 0, 0, 0]])
    states, _ = made.lstm(made.embedding(words))
    means = torch.stack([states[0, :3].mean(dim=0), states[1, 0]])
    torch.testing.assert_close(made(words), made.out(means))


def test_a_text_without_words() -> None:
    made = module()
    torch.testing.assert_close(made(torch.zeros(1, 4, dtype=torch.int64))[0], made.out.bias)


def test_initial_weights_are_theano_mpis() -> None:
    torch.manual_seed(0)
    made = LSTMModule(1000, 2, width=128)
    words = made.embedding.weight.detach()
    assert 0 <= float(words.min()) < 0.001 and 0.009 < float(words.max()) < 0.01
    for weight in (made.lstm.weight_ih_l0, made.lstm.weight_hh_l0):
        for gate in weight.chunk(4):
            torch.testing.assert_close(gate @ gate.T, torch.eye(128), atol=1e-5, rtol=0)
    assert not made.lstm.bias_ih_l0.any() and not made.lstm.bias_hh_l0.any()


def write_reviews(folder: Path) -> str:
    for split, count in (("train", 24), ("test", 8)):
        for name, word in (("neg", "dull"), ("pos", "lively")):
            (folder / split / name).mkdir(parents=True)
            for place in range(count):
                text = f"number {place} was {word}, " + "and more " * (place % 5)
                (folder / split / name / f"{place}.txt").write_text(text)
    return f"textfolder:{folder},length=12"


def test_it_learns_what_a_word_says(train: Any, tmp_path: Path) -> None:
    settings = {"run.model": "lstm", "run.data": write_reviews(tmp_path / "reviews")}
    settings |= {"train.epochs": 12, "optimizer.learning_rate": 1e-2}
    result = train(1, settings)
    first, *_, last = [event for event in result.events if event["event"] == "validation"]
    assert first["samples"] == 16
    assert first["loss"] == pytest.approx(math.log(2), abs=0.02)
    assert last["accuracy"] == 1
    assert last["loss"] < 0.3


def test_data_that_is_no_texts(train: Any, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("word " * 100)
    for data in ("digits", f"text:{tmp_path / 'text.txt'},length=8"):
        message = (
            r"^lstm classifies texts, and .* holds none with labels: use --data textfolder:DIR"
        )
        with pytest.raises(UserError, match=message):
            train(1, {"run.model": "lstm", "run.data": data})
