"""Every model of the zoo: its size, one step with two workers, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from arignote.config.model_source import find_model
from arignote.config.spec import parse_spec
from arignote.data.synthetic import Synthetic
from arignote.models.mlp import MLP56M
from arignote.registry import MODELS
from arignote.trainer.contract_task import check_contract

PARAMETERS = {
    "digits-mlp": (9_610, "synthetic:1x8x8,10,train=64,validation=8"),
    "digits-cnn": (21_546, "synthetic:1x8x8,10,train=64,validation=8"),
    "cifar10-cnn": (358_346, "synthetic:3x32x32,10,train=64,validation=8"),
}
"""Parameters of each on data of its own shape."""
LARGE = {
    "mlp-56m": (56_648_714, "synthetic:3x32x32,10,train=64,validation=8"),
}
"""Too large to be trained in a test: counted without memory, trained in a narrower form."""
CONTRACT = {"lsgan-digits": 24_961}
"""Of Theano-MPI's contract, with data of their own: parameters that are exchanged."""

CONFIG = {"rank": 0, "size": 1, "verbose": True, "seed": 0, "batch_size": 32, "n_epochs": 1}


def test_no_model_is_forgotten() -> None:
    assert {*PARAMETERS, *LARGE, *CONTRACT} == {entry.name for entry in MODELS}


@pytest.mark.parametrize("name", LARGE)
def test_parameters_of_a_large_one(name: str) -> None:
    count, data = LARGE[name]
    model = MODELS.load(name)()
    model.dataset = Synthetic.open(parse_spec(data), augment="none")
    with torch.device("meta"):
        module = model.build()
    assert sum(parameter.numel() for parameter in module.parameters()) == count


def test_a_narrow_mlp_learns(train: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(MLP56M, "widths", (64, 32))
    data = "synthetic:1x8x8,10,train=64,validation=8"
    settings = {"run.model": "mlp-56m", "run.data": data, "train.epochs": 20}
    result = train(2, settings | {"train.batch_size": 32, "optimizer.learning_rate": 0.1})
    assert result.summary["parameters"] == 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    losses = [event["loss"] for event in result.events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", PARAMETERS)
def test_twenty_steps_of_two_workers_lower_the_loss(train: Any, name: str) -> None:
    count, data = PARAMETERS[name]
    settings = {"run.model": name, "run.data": data, "train.epochs": 20, "train.batch_size": 32}
    result = train(2, settings | {"train.augment": "none"})
    assert result.summary["parameters"] == count
    assert result.summary["steps"] == 20
    losses = [event["loss"] for event in result.events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", CONTRACT)
def test_twenty_steps_of_two_workers_by_the_contract(train: Any, name: str) -> None:
    check_contract(MODELS.load(name)(CONFIG), name)
    result = train(2, {"run.model": name, "train.epochs": 5, "train.batch_size": 180})
    assert result.summary["parameters"] == CONTRACT[name]
    assert result.summary["steps"] == 20
    losses = [event["loss"] for event in result.events if event["event"] == "epoch"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", [*PARAMETERS, *LARGE, *CONTRACT])
def test_defaults_are_settings(name: str) -> None:
    from arignote.config.load import nest, resolve

    source = find_model(name)
    resolve([(name, nest(source.defaults, name))])
