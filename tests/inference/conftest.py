"""A run of digits-cnn, trained once for all tests here, and runs made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arignote.checkpoint.store import CheckpointStore
from arignote.comm.crew import form_crew
from arignote.comm.location import locate
from arignote.comm.serial import SerialWorld
from arignote.config.load import nest, resolve, to_toml
from arignote.config.model_source import find_model
from arignote.config.settings import Settings
from arignote.data.card import DataCard
from arignote.data.digits import Digits
from arignote.trainer.stopping import StopFlag
from arignote.worker import build_trainer


def settings_of(model: str, given: dict[str, Any]) -> Settings:
    """As `arignote train MODEL --set ...` resolves them."""
    layers = [find_model(model).defaults, {"run.model": model}, given]
    return resolve([("", nest(layer, "")) for layer in layers])


@dataclass
class Run:
    """A trained run and its data."""

    folder: Path
    summary: dict[str, Any]
    data: Digits

    def picture(self, index: int, path: Path) -> str:
        """Validation sample `index` as an image file."""
        pixels = self.data._images("validation", np.array([index]))
        Image.fromarray(pixels[0, ..., 0]).save(path)
        return str(path)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """digits-cnn after two epochs, one worker."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    folder.mkdir()
    settings = settings_of("digits-cnn", {"train.epochs": 2})
    (folder / "config.toml").write_text(to_toml(settings))
    crew = form_crew(SerialWorld(), 0)
    where = locate(crew.workers, settings.launch)
    build_trainer(settings, crew, where, folder, StopFlag(), resume=False).run()
    summary = json.loads((folder / "summary.json").read_text())
    return Run(folder, summary, Digits(augment="none"))


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """make_run("digits-mlp", module.state_dict(), card, {"train.epochs": 2}, step=1)."""

    def make(
        model: str,
        weights: dict[str, torch.Tensor],
        card: DataCard | None,
        given: dict[str, Any] | None = None,
        *,
        step: int = 1,
        folder: str = "made",
    ) -> Path:
        run = tmp_path / folder
        run.mkdir(exist_ok=True)
        settings = settings_of(model, given or {})
        (run / "config.toml").write_text(to_toml(settings))
        common: dict[str, Any] = {
            "position": {"steps": step},
            "settings": settings.model_dump(),
            "optimizer": {"momentum": torch.ones(3)},
        }
        if card is not None:
            common["data"] = card.as_dict()
        store = CheckpointStore(run, SerialWorld(), keep_last=9)
        assert store.save(step, weights=weights, common=common, own={}) is None
        return run

    return make


PICTURES = DataCard(
    classes=("ant", "bee", "cat"),
    sample_shape=(3, 6, 4),
    dtype="float32",
    vocabulary=(),
    mean=(10.0, 20.0, 30.0),
    deviation=(1.0, 2.0, 4.0),
)


@pytest.fixture
def pictures() -> DataCard:
    """The card of a data set of pictures, 3 x 6 x 4, three classes."""
    return PICTURES


FLAT = """
from torch import nn
from arignote import Model


class Flat(Model):
    def build(self):
        channels, height, width = self.dataset.sample_shape
        classes = len(self.dataset.classes)
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, classes))
"""


@pytest.fixture
def flat(tmp_path: Path) -> str:
    """A model of one dense layer, in a file of its own."""
    (tmp_path / "flat.py").write_text(FLAT)
    return f"{tmp_path / 'flat.py'}:Flat"


@pytest.fixture
def flat_weights() -> dict[str, torch.Tensor]:
    """Weights of `flat` for `pictures`."""
    generator = torch.Generator().manual_seed(1)
    return {
        "1.weight": torch.randn(3, 72, generator=generator),
        "1.bias": torch.randn(3, generator=generator),
    }
