"""lsgan-digits: whose data and noise are whose, that it learns, and what it leaves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from arignote.errors import NotANumberError, UserError
from arignote.models.gan import told_apart
from arignote.models.lsgan import DigitShares, LSGANDigits
from arignote.recorder.phases import HostClock, Recorder

TRAIN_SIZE = 1437


def make(rank: int = 0, size: int = 1, **changed: int) -> LSGANDigits:
    config = {"rank": rank, "size": size, "verbose": rank == 0, "seed": 3}
    return LSGANDigits(config | {"batch_size": 32, "n_epochs": 10} | changed)


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 400])
def test_in_an_epoch_every_digit_is_one_workers(workers: int) -> None:
    # The digits are the same for all ranks: loaded once, because there may be 400 of them.
    shares = DigitShares(rank=0, size=workers, seed=3, batch_size=32)
    epochs = []
    for epoch in (0, 1):
        batches = []
        for rank in range(workers):
            shares.rank = rank
            own = shares.share(epoch)
            assert len(own) == shares.n_batch_train
            assert all(1 <= len(batch) <= 33 for batch in own)
            batches += own
        epochs.append(np.concatenate(batches))
        assert sorted(epochs[-1].tolist()) == list(range(TRAIN_SIZE))
    assert not np.array_equal(*epochs)


def test_pixels_are_in_range_and_both_sets_on_one_scale() -> None:
    data = make().data
    assert data.train.shape == (TRAIN_SIZE, 64)
    assert data.held_out.shape == (360, 64)
    assert (float(data.train.min()), float(data.train.max())) == (-1, 1)
    assert torch.allclose(data.train.mean(), data.held_out.mean(), atol=0.02)


def test_more_workers_than_digits() -> None:
    with pytest.raises(UserError, match=r"^1438 workers but only 1437 samples to train on: use"):
        make(size=1438)


def test_workers_have_generators_and_noise_of_their_own() -> None:
    first, again, other = make(0, 2), make(0, 2), make(1, 2)
    assert torch.equal(first.generate(5, 1), again.generate(5, 1))
    assert not torch.equal(first.generate(5, 1), first.generate(5, 2))
    other.generator.load_state_dict(first.generator.state_dict())
    assert not torch.equal(first.generate(5, 1), other.generate(5, 1))
    assert not torch.equal(first.params[0], other.params[0])


def test_its_params_are_the_critic_alone_and_in_place() -> None:
    model = make()
    assert sum(array.numel() for array in model.params) == 24_961
    for array in model.params:
        array.zero_()
    assert not any(p.any() for p in model.critic.parameters())
    assert any(p.any() for p in model.generator.parameters())


def test_a_step_books_its_time_and_notes_its_losses() -> None:
    ticks = iter(range(100))
    recorder = Recorder(HostClock(lambda: float(next(ticks))))
    model = make()
    recorder.start()
    model.train_iter(0, recorder)
    assert (recorder.seconds["wait"], recorder.seconds["calc"]) == (1, 1)
    sums = recorder.take_train_sums()
    assert sums["samples"] == model.samples == 32
    assert 0 < sums["loss"] / 32 < 2
    assert 0 <= sums["error"] / 32 <= 1
    assert recorder.notes["generator_loss"].readings == 1


def test_a_batch_may_be_a_single_digit() -> None:
    model = make(5, 1000, batch_size=1)
    for count in range(model.data.n_batch_train):
        model.train_iter(count, Recorder())
        assert model.samples in (1, 2)


def test_a_critic_that_is_no_number_ends_the_run() -> None:
    model = make(1, 2)
    model.epoch = 4
    model.params[0].fill_(math.nan)
    with pytest.raises(NotANumberError, match=r"^the loss of worker 1 .* at batch 2 of epoch 5:"):
        model.train_iter(1, Recorder())


def test_the_learning_rate_falls_in_the_second_half() -> None:
    model = make()
    rates = []
    for epoch in range(10):
        model.adjust_hyperp(epoch)
        rates.append(model._optimizers[1].param_groups[0]["lr"] / model.learning_rate)
    assert rates == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])


def test_told_apart() -> None:
    data = make().data
    real, alike = data.held_out, data.train[:: TRAIN_SIZE // 360][:360]
    assert told_apart(real, alike) < 0.1
    assert told_apart(real, alike + 4) == 1
    noise = 0.01 * torch.randn(360, 64, generator=torch.Generator().manual_seed(0))
    collapsed = alike[:1] + noise
    assert told_apart(real, collapsed) > 0.95
    # In the middle of all, each is the nearest to many a real one.
    scattered = 2 * torch.rand(360, 64, generator=torch.Generator().manual_seed(0)) - 1
    assert told_apart(scattered, noise) > 0.95
    # By hand: all neighbours are of the other kind; of the same are two of three and all three.
    rows = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    assert told_apart(rows[[0, 2]], rows[[1, 3]]) == 1
    assert told_apart(rows[:3], rows[[3, 3, 3]] + 1) == pytest.approx((1 / 3 + 1) / 2)


def test_it_learns_and_leaves_a_sheet(train: Any, tmp_path: Any) -> None:
    settings = {"run.model": "lsgan-digits", "run.rule": "swap:period=20", "train.epochs": 50}
    settings |= {"train.validate_every_epochs": 5, "checkpoint.every_epochs": 0}
    result = train(2, settings)
    first, *_, last = [event for event in result.events if event["event"] == "validation"]
    assert last["samples"] == 2 * 360
    assert first["error"] > 0.94 > last["error"]
    model = result.trainer.task.model
    real, drawn = model.data.held_out, model.generate(360, 2)
    # Not collapsed, and of the right shapes: pixels vary as much, and have the same means.
    assert drawn.std(dim=0).mean() > 0.7 * real.std(dim=0).mean()
    assert torch.corrcoef(torch.stack([drawn.mean(dim=0), real.mean(dim=0)]))[0, 1] > 0.9
    newest = sorted((tmp_path / "run/checkpoints").glob("step-*"))[-1]
    with Image.open(newest / "samples.png") as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (870, 438))
        assert picture.getextrema() == (0, 255)
    twin = make(0, 2, seed=0)
    twin.generator.load_state_dict(load_file(newest / "generator.safetensors"))
    assert torch.equal(twin.generate(360, 2), drawn)
    assert train(2, settings, resume=True).sha == result.sha


def test_stopped_and_resumed_it_is_as_if_it_had_not_been(train: Any) -> None:
    settings = {"run.model": "lsgan-digits", "run.rule": "swap:period=5", "train.epochs": 2}
    settings |= {"train.validate_every_epochs": 0}
    straight = train(2, settings, folder="straight")
    train(2, settings, folder="stopped", stop_at=8)
    resumed = train(2, settings, folder="stopped", resume=True)
    assert resumed.sha == straight.sha
    ends = [result.trainer.task.model.generator.state_dict() for result in (straight, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_alone_it_trains_too(train: Any) -> None:
    result = train(1, {"run.model": "lsgan-digits", "train.epochs": 1})
    assert (result.summary["steps"], result.summary["wire_bytes"]) == (23, 0)
