"""Every model of the zoo: its size, one step with one and two workers, and that it learns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from arignote.config.model_source import find_model
from arignote.config.spec import parse_spec
from arignote.data.synthetic import Synthetic
from arignote.models.base import Model
from arignote.registry import MODELS
from arignote.trainer.contract_task import check_contract


@dataclass(frozen=True)
class Trial:
    """How a `Model` is trained here: on small samples, and narrower or shallower where it is large.

    Without dropout, whose noise is more than twenty steps gain.
    """

    data: str
    """The shape of synthetic images, or a data spec below a folder {}; eight samples train."""
    narrow: Mapping[str, object] = field(default_factory=dict)
    """Attributes of its class."""

    def settings(self, folder: Path) -> dict[str, Any]:
        """One step an epoch of two workers; the model's own optimizer, but for its rate."""
        images = f"synthetic:{self.data},4,train=8,validation=2"
        return {
            "run.data": self.data.format(folder) if ":" in self.data else images,
            "run.exchange": "allreduce",
            "train.batch_size": 4,
            "train.augment": "none",
            "train.validate_every_epochs": 0,
            "checkpoint.every_epochs": 0,
            "optimizer.learning_rate": 0.01,
            "schedule.name": "constant",
            "schedule.milestones": [],
            "schedule.horizon_epochs": 0.0,
            "schedule.scaling": "none",
            "schedule.warmup": "none",
        }


_TEXT = "text:{}/text.txt,length=16"
_VGG = {"dense": 256}
TRIALS = {
    "digits-mlp": Trial("1x8x8"),
    "digits-cnn": Trial("1x8x8"),
    "cifar10-cnn": Trial("3x16x16"),
    "cifar10-toy": Trial("3x28x28"),
    "cifar10-alexnet": Trial("3x16x16", narrow={"dense": 64}),
    "alexnet": Trial("3x63x63", narrow={"dense": 256}),
    "alexnet-owt": Trial("3x63x63", narrow={"dense": 256}),
    "googlenet": Trial("3x16x16"),
    "vgg11": Trial(
        "3x32x32", narrow=_VGG | {"stages": ((8, 1), (8, 1), (16, 2), (16, 2), (64, 2))}
    ),
    "vgg16": Trial(
        "3x32x32", narrow=_VGG | {"stages": ((8, 2), (8, 2), (16, 3), (16, 3), (64, 3))}
    ),
    "resnet18": Trial("3x16x16", narrow={"width": 8}),
    "resnet50": Trial("3x16x16", narrow={"width": 8, "blocks": (1, 2, 2, 1)}),
    "resnet152": Trial("3x16x16", narrow={"width": 8, "blocks": (1, 1, 3, 1)}),
    "wide-resnet-16-4": Trial("3x8x8"),
    "wide-resnet-28-4": Trial("3x8x8", narrow={"width": 1}),
    "vit-tiny": Trial("3x8x8", narrow={"width": 48, "depth": 3}),
    "mlp-56m": Trial("1x8x8", narrow={"widths": (64, 32)}),
    "gpt-nano": Trial(_TEXT, narrow={"layers": 2, "width": 32, "heads": 2}),
    "gpt-small": Trial(_TEXT, narrow={"layers": 2, "width": 32, "heads": 2}),
    "char-lstm": Trial(_TEXT, narrow={"dropout": 0.0}),
    "lstm": Trial("textfolder:{}/reviews,length=16"),
}
CONTRACT = {
    "lsgan-digits": ("digits", 180),
    "lsgan": ("synthetic:1x8x8,10,train=16,validation=4", 2),
    "wgan": ("synthetic:1x8x8,10,train=16,validation=4", 2),
}
"""Of Theano-MPI's contract: small data, and the batch for 4 steps an epoch."""

CONFIG = {"rank": 0, "size": 1, "verbose": True, "seed": 0, "batch_size": 32, "n_epochs": 1}


def write_texts(folder: Path) -> None:
    """What the trials of texts read: 8 training windows of 16 characters, 8 labelled texts."""
    (folder / "text.txt").write_text(("the quick brown fox jumps over the lazy dog. " * 9)[:165])
    for split, count in (("train", 4), ("test", 1)):
        for name, word in (("neg", "dull"), ("pos", "lively")):
            (folder / "reviews" / split / name).mkdir(parents=True)
            for place in range(count):
                file = folder / "reviews" / split / name / f"{place}.txt"
                file.write_text(f"{word} {place}" + f" {word}" * (place % 3))


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Any]:
    """The settings of one of `TRIALS`, whose class is made as narrow as it says."""
    chosen = TRIALS[request.param]
    monkeypatch.setattr(nn.Dropout, "forward", lambda self, inputs: inputs)
    for name, value in chosen.narrow.items():
        kind = MODELS.load(request.param)
        assert hasattr(kind, name)
        monkeypatch.setattr(kind, name, value)
    write_texts(tmp_path)
    return {"run.model": request.param} | chosen.settings(tmp_path)


def _losses(result: Any) -> list[float]:
    return [event["loss"] for event in result.events if event["event"] == "epoch"]


def test_no_model_is_forgotten() -> None:
    assert {*TRIALS, *CONTRACT} == {entry.name for entry in MODELS}
    for entry in MODELS:
        assert issubclass(MODELS.load(entry.name), Model) == (entry.name in TRIALS)


def listed_data(text: str) -> Any:
    """A data set of what `arignote list` says a model's input is, but without samples."""
    texts = re.fullmatch(r"(\d+) of (\d+) (?:tokens|words)(?:, (\d+))?", text)
    if texts is None:
        assert re.fullmatch(r"\d+x\d+x\d+, \d+", text)
        spec = parse_spec(f"synthetic:{text.replace(' ', '')},train=1,validation=1")
        return Synthetic.open(spec, augment="none")
    length, words, classes = texts.groups()
    return SimpleNamespace(
        sample_shape=(int(length),),
        vocabulary=("",) * int(words),
        classes=("",) * int(classes or words),
    )


@pytest.mark.parametrize("name", TRIALS)
def test_parameters_are_those_that_are_listed(name: str) -> None:
    entry = MODELS.entry(name)
    model = MODELS.load(name)()
    model.dataset = listed_data(entry.input)
    with torch.device("meta"):
        module = model.build()
    assert sum(parameter.numel() for parameter in module.parameters()) == entry.parameters


@pytest.mark.parametrize("trial", TRIALS, indirect=True)
def test_a_step_of_two_workers_is_one_of_one(
    train: Any, trial: dict[str, Any], relative_difference: Any
) -> None:
    settings = trial | {
        "train.steps": 1,
        "train.precision": "fp64",
        "train.batch_norm": "synchronised",
    }
    one = train(1, settings | {"train.batch_size": 8}, folder="one")
    two = train(2, settings, folder="two")
    assert one.summary["samples"] == two.summary["samples"] == 8
    a, b = (run.trainer.task.replica.named_tensors() for run in (one, two))
    assert relative_difference(a, b) < 1e-10


@pytest.mark.parametrize("trial", TRIALS, indirect=True)
def test_twenty_steps_of_two_workers_lower_the_loss(train: Any, trial: dict[str, Any]) -> None:
    # By Adam, for which the small initial weights of AlexNet's time are no plateau.
    adam = {"optimizer.name": "adam", "optimizer.learning_rate": 1e-3}
    adam |= {"optimizer.momentum": 0.0, "optimizer.nesterov": False}
    adam |= {"optimizer.weight_decay": 0.0}
    result = train(2, trial | adam | {"train.epochs": 20})
    assert result.summary["steps"] == 20
    losses = _losses(result)
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("name", CONTRACT)
def test_twenty_steps_of_two_workers_by_the_contract(train: Any, name: str) -> None:
    data, batch_size = CONTRACT[name]
    check_contract(MODELS.load(name)(CONFIG | {"data": data, "rule": "bsp"}), name)
    settings = {"run.model": name, "run.data": data, "train.epochs": 5}
    result = train(2, settings | {"train.batch_size": batch_size})
    assert result.summary["steps"] == 20
    losses = _losses(result)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", CONTRACT)
def test_parameters_that_are_exchanged_by_default(name: str) -> None:
    entry, defaults = MODELS.entry(name), find_model(name).defaults
    data = (
        "digits" if entry.input == "1x8x8" else f"synthetic:{entry.input},10,train=2,validation=2"
    )
    rule = defaults.get("run.rule", "bsp")
    model = MODELS.load(name)(CONFIG | {"data": data, "rule": rule, "batch_size": 1})
    assert sum(parameter.numel() for parameter in model.params) == entry.parameters


@pytest.mark.parametrize("name", [entry.name for entry in MODELS])
def test_defaults_are_settings(name: str) -> None:
    from arignote.config.load import nest, resolve

    source = find_model(name)
    resolve([(name, nest(source.defaults, name))])
