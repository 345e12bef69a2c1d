"""Language models: what they say after a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from arignote.data.card import DataCard
from arignote.errors import UserError
from arignote.inference.request import Request
from arignote.inference.sample import sample

# Each token is followed by the next of the vocabulary, or sometimes, the warmer the more often,
# by any.
MODEL = """
import torch
from torch import nn
from arignote import Model


class Next(Model):
    def build(self):
        return nn.Embedding(len(self.dataset.vocabulary), len(self.dataset.vocabulary))

    def generate(self, prompt_tokens, count, temperature, generator):
        tokens = prompt_tokens
        for _ in range(count):
            scores = self.module(tokens[:, -1]) / temperature
            drawn = torch.multinomial(scores.softmax(1), 1, generator=generator)
            tokens = torch.cat([tokens, drawn], 1)
        return tokens
"""


@pytest.fixture
def run(make_run: Any, tmp_path: Path) -> Path:
    (tmp_path / "next.py").write_text(MODEL)
    letters = ("a", "b", "c", "é")
    card = DataCard(letters, (4,), "int64", letters, (), ())
    weights = {"weight": 5 * torch.eye(4).roll(1, 1)}
    made: Path = make_run(f"{tmp_path / 'next.py'}:Next", weights, card)
    return made


def ask(run: Path, **options: Any) -> str:
    given = {"prompt": "é", "length": 40, "temperature": 1.0, "seed": 0, **options}
    text = sample(Request("sample", str(run), options=given))["text"]
    assert isinstance(text, str)
    return text


def test_a_cold_model_says_what_it_has_learned(run: Path) -> None:
    assert ask(run, temperature=0.01, length=6) == "abcéab"
    assert ask(run, temperature=0.01, length=3, prompt="ab") == "céa"


def test_same_seed_same_text(run: Path) -> None:
    warm = ask(run, temperature=3.0)
    assert len(warm) == 40
    assert ask(run, temperature=3.0) == warm
    assert ask(run, temperature=3.0, seed=1) != warm


def test_prompts_that_the_model_cannot_read(run: Path) -> None:
    with pytest.raises(UserError, match="--prompt: 'x' is no character of the text that was"):
        ask(run, prompt="axb")
    with pytest.raises(UserError, match="--prompt is empty"):
        ask(run, prompt="")


def test_a_model_that_does_not_generate(trained: Any) -> None:
    with pytest.raises(UserError, match="a run of digits-cnn, which does not generate text"):
        ask(trained.folder)
