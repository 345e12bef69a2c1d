"""wgan and lsgan: losses worked by hand, what travels, who updates when, and odd sizes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from arignote.errors import UserError
from arignote.models.gan_images import ImageGAN
from arignote.models.lsgan import LSGAN, LeastSquares
from arignote.models.wgan import WGAN, Wasserstein
from arignote.recorder.phases import Recorder

KINDS = [LSGAN, WGAN]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageGAN, "width", 4)
    monkeypatch.setattr(ImageGAN, "dense", 16)


def make(kind: Any, rule: str = "swap", shape: str = "1x8x8", **changed: Any) -> Any:
    config = {"rank": 0, "size": 1, "verbose": True, "seed": 3, "batch_size": 16, "n_epochs": 10}
    config["data"] = f"synthetic:{shape},10,train=100,validation=20"
    return kind(config | {"rule": rule} | changed)


def test_losses_by_hand() -> None:
    real, fake = torch.tensor([[1.0], [0.4], [3.0]]), torch.tensor([[0.0], [2.0], [0.6]])
    squares = LeastSquares()
    expected = 0.5 * (0 + 0.36 + 4) / 3 + 0.5 * (0 + 4 + 0.36) / 3
    assert float(squares.critic_loss(real, fake)) == pytest.approx(expected)
    assert float(squares.generator_loss(fake)) == pytest.approx(0.5 * (1 + 1 + 0.16) / 3)
    assert float(squares.critic_error(real, fake)) == pytest.approx((1 / 3 + 2 / 3) / 2)
    distance = Wasserstein()
    assert float(distance.critic_loss(real, fake)) == pytest.approx(2.6 / 3 - 4.4 / 3)
    assert float(distance.generator_loss(fake)) == pytest.approx(-2.6 / 3)
    # Below a fake: 1 < 2, 0.4 < 2, 0.4 < 0.6.
    assert float(distance.critic_error(real, fake)) == pytest.approx(3 / 9)


@pytest.mark.parametrize("kind", KINDS)
def test_what_travels(kind: Any) -> None:
    swapped, averaged = make(kind), make(kind, rule="bsp:scheme=weights")
    critic = [parameter.shape for parameter in swapped.critic.parameters()]
    assert [array.shape for array in swapped.params] == critic
    state = [t for t in averaged.generator.state_dict().values() if t.is_floating_point()]
    assert sum(t.numel() for t in averaged.params) == sum(
        tensor.numel() for tensor in (*state, *swapped.params)
    )
    for array in averaged.params:
        array.zero_()
    for tensor in (*averaged.critic.parameters(), *state):
        assert not tensor.any()


@pytest.mark.parametrize("shape", ["1x8x8", "3x7x10", "2x9x5"])
@pytest.mark.parametrize("kind", KINDS)
def test_images_have_the_datas_size(kind: Any, shape: str) -> None:
    model = make(kind, shape=shape)
    sides = tuple(int(side) for side in shape.split("x"))
    assert model.generate(5, 1).shape == (5, *sides)
    assert model.critic(model.generate(5, 1)).shape == (5, 1)
    real = model.data.real(np.arange(100))
    assert real.shape == (100, *sides)
    assert -1 <= float(real.min()) < -0.9 and 0.9 < float(real.max()) <= 1
    assert model.data.unseen().shape == (20, *sides)


def test_the_sheet_shows_colours_in_large(tmp_path: Any) -> None:
    make(LSGAN, shape="3x6x12").save(str(tmp_path))
    with Image.open(tmp_path / "samples.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (16 * (12 * 4 + 6) + 6, 8 * (6 * 4 + 6) + 6))


def test_a_single_image_is_a_batch() -> None:
    for kind in KINDS:
        model = make(kind, rank=1, size=100)
        model.train_iter(0, Recorder())
        assert model.samples == 1


def test_wgans_generator_moves_at_each_fifth_step_and_the_critic_in_bounds() -> None:
    model, recorder = make(WGAN, batch_size=10), Recorder()
    weights = [model.generator[0].weight.clone()]
    for count in range(10):
        model.train_iter(count, recorder)
        weights.append(model.generator[0].weight.clone())
        bounds = [float(array.abs().max()) for array in model.params if array.ndim > 1]
        assert max(bounds) <= 0.01 * (1 + 1e-6)
    moved = [not torch.equal(a, b) for a, b in pairwise(weights)]
    assert moved == [False] * 4 + [True] + [False] * 4 + [True]
    assert recorder.notes["generator_loss"].readings == 2


@pytest.mark.parametrize("rule", ["swap:period=3", "bsp:scheme=weights"])
@pytest.mark.parametrize("name", ["wgan", "lsgan"])
def test_stopped_and_resumed_it_is_as_if_it_had_not_been(train: Any, name: str, rule: str) -> None:
    data = "synthetic:1x8x8,10,train=96,validation=20"
    settings = {"run.model": name, "run.rule": rule, "run.data": data, "train.epochs": 2}
    settings |= {"train.batch_size": 8}
    straight = train(2, settings, folder="straight")
    assert straight.summary["steps"] == 12
    train(2, settings, folder="stopped", stop_at=8)
    resumed = train(2, settings, folder="stopped", resume=True)
    assert resumed.sha == straight.sha
    ends = [run.trainer.task.model.generator.state_dict() for run in (straight, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_data_that_holds_no_images(tmp_path: Any) -> None:
    (tmp_path / "text.txt").write_text("word " * 200)
    with pytest.raises(
        UserError, match=r"^WGAN draws images, and text:.* holds none: use --data id"
    ):
        make(WGAN, data=f"text:{tmp_path / 'text.txt'},length=8")
