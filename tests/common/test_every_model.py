"""Every model of the zoo: its size, one step with two workers, and that it learns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from arignote.config.model_source import find_model
from arignote.config.spec import parse_spec
from arignote.data.synthetic import Synthetic
from arignote.models.gpt import GPTSmall
from arignote.models.mlp import MLP56M
from arignote.registry import MODELS
from arignote.trainer.contract_task import check_contract

PARAMETERS = {
    "digits-mlp": (9_610, "synthetic:1x8x8,10,train=64,validation=8"),
    "digits-cnn": (21_546, "synthetic:1x8x8,10,train=64,validation=8"),
    "cifar10-cnn": (358_346, "synthetic:3x32x32,10,train=64,validation=8"),
}
"""Parameters of each on data of its own shape."""
TEXTS = {
    "gpt-nano": (997_248, "text:{}/text.txt,length=16"),
    "char-lstm": (932_380, "text:{}/text.txt,length=16"),
    "lstm": (136_962, "textfolder:{}/reviews,length=16"),
}
"""The same on texts: 28 characters, or 36 words."""
LARGE = {
    "mlp-56m": (56_648_714, "synthetic:3x32x32,10,train=64,validation=8"),
}
"""Too large to be trained in a test: counted without memory, trained in a narrower form."""
LARGE_TEXTS = {"gpt-small": (124_439_808, 50_257, 1024)}
"""The same, for so many tokens and so long a context."""
CONTRACT = {
    "lsgan-digits": (24_961, "digits", 180),
    "lsgan": (734_081, "synthetic:1x8x8,10,train=160,validation=20", 20),
    "wgan": (1_573_569, "synthetic:1x8x8,10,train=160,validation=20", 20),
}
"""Of Theano-MPI's contract: parameters that are exchanged, data, and batch for 4 steps an epoch."""

CONFIG = {"rank": 0, "size": 1, "verbose": True, "seed": 0, "batch_size": 32, "n_epochs": 1}


def write_texts(folder: Path) -> None:
    """What `TEXTS` name: 64 training windows of 16 characters, and 64 labelled texts."""
    sentence = "the quick brown fox jumps over the lazy dog. "
    (folder / "text.txt").write_text((sentence * 30)[:1156])
    for split, count in (("train", 32), ("test", 4)):
        for name, word in (("neg", "dull"), ("pos", "lively")):
            (folder / "reviews" / split / name).mkdir(parents=True)
            for place in range(count):
                file = folder / "reviews" / split / name / f"{place:02}.txt"
                file.write_text(f"{word} {place:02}" + f" {word}" * (place % 3))


def test_no_model_is_forgotten() -> None:
    assert {*PARAMETERS, *TEXTS, *LARGE, *LARGE_TEXTS, *CONTRACT} == {
        entry.name for entry in MODELS
    }


@pytest.mark.parametrize("name", LARGE)
def test_parameters_of_a_large_one(name: str) -> None:
    count, data = LARGE[name]
    model = MODELS.load(name)()
    model.dataset = Synthetic.open(parse_spec(data), augment="none")
    with torch.device("meta"):
        module = model.build()
    assert sum(parameter.numel() for parameter in module.parameters()) == count


@pytest.mark.parametrize("name", LARGE_TEXTS)
def test_parameters_of_a_large_language_model(name: str) -> None:
    count, tokens, context = LARGE_TEXTS[name]
    model = MODELS.load(name)()
    model.dataset = SimpleNamespace(vocabulary=("",) * tokens, sample_shape=(context,))
    with torch.device("meta"):
        module = model.build()
    assert sum(parameter.numel() for parameter in module.parameters()) == count


def test_a_narrow_gpt_small_learns(train: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for name, value in (("layers", 2), ("width", 32), ("heads", 2)):
        monkeypatch.setattr(GPTSmall, name, value)
    write_texts(tmp_path)
    settings = {"run.model": "gpt-small", "run.data": f"text:{tmp_path}/text.txt,length=16"}
    result = train(2, settings | {"train.epochs": 20, "train.batch_size": 32})
    assert result.summary["steps"] == 20
    losses = [event["loss"] for event in result.events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]


def test_a_narrow_mlp_learns(train: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(MLP56M, "widths", (64, 32))
    data = "synthetic:1x8x8,10,train=64,validation=8"
    settings = {"run.model": "mlp-56m", "run.data": data, "train.epochs": 20}
    result = train(2, settings | {"train.batch_size": 32, "optimizer.learning_rate": 0.1})
    assert result.summary["parameters"] == 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    losses = [event["loss"] for event in result.events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [*PARAMETERS, *TEXTS])
def test_twenty_steps_of_two_workers_lower_the_loss(train: Any, tmp_path: Path, name: str) -> None:
    count, data = {**PARAMETERS, **TEXTS}[name]
    write_texts(tmp_path)
    settings = {
        "run.model": name,
        "run.data": data.format(tmp_path),
        "train.epochs": 20,
        "train.batch_size": 32,
    }
    result = train(2, settings | {"train.augment": "none"})
    assert result.summary["parameters"] == count
    assert result.summary["steps"] == 20
    losses = [event["loss"] for event in result.events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", CONTRACT)
def test_twenty_steps_of_two_workers_by_the_contract(train: Any, name: str) -> None:
    count, data, batch_size = CONTRACT[name]
    check_contract(MODELS.load(name)(CONFIG | {"data": data, "rule": "bsp"}), name)
    settings = {"run.model": name, "run.data": data, "train.epochs": 5}
    result = train(2, settings | {"train.batch_size": batch_size})
    assert result.summary["parameters"] == count
    assert result.summary["steps"] == 20
    losses = [event["loss"] for event in result.events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [entry.name for entry in MODELS])
def test_defaults_are_settings(name: str) -> None:
    from arignote.config.load import nest, resolve

    source = find_model(name)
    resolve([(name, nest(source.defaults, name))])
