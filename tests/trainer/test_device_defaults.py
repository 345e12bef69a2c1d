"""What is left to the device: settled by what it is, and the settings win."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from arignote.config.settings import Settings
from arignote.trainer.device_defaults import wants_channels_last, with_device_defaults

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def settings(**sections: Any) -> Settings:
    return Settings(**sections)


@pytest.mark.parametrize(
    ("device", "capability", "precision"),
    [(CPU, None, "fp32"), (GPU, (7, 5), "fp32"), (GPU, (8, 0), "bf16"), (GPU, (9, 0), "bf16")],
)
def test_precision(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, capability: Any, precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert with_device_defaults(Settings(), device, 2).train.precision == precision
    named = settings(train={"precision": "fp64"})
    assert with_device_defaults(named, device, 2).train.precision == "fp64"


@pytest.mark.parametrize(
    ("workers", "rule", "optimizer", "precision", "fused"),
    [
        (1, "bsp", "sgd", "fp32", True),
        (1, "bsp", "adamw", "fp32", True),
        (1, "bsp", "rmsprop", "fp32", False),
        (1, "bsp", "sgd", "fp16", False),
        (2, "bsp", "sgd", "fp32", False),
        (2, "bsp:sharded=off", "sgd", "fp32", False),
        (2, "easgd", "sgd", "fp32", True),
        (2, "bsp/diloco", "adam", "fp32", True),
    ],
)
def test_fused(workers: int, rule: str, optimizer: str, precision: str, fused: bool) -> None:
    given = settings(
        run={"rule": rule}, optimizer={"name": optimizer}, train={"precision": precision}
    )
    assert with_device_defaults(given, CPU, workers).optimizer.fused == fused
    named = settings(run={"rule": rule}, optimizer={"name": "sgd", "fused": not fused})
    assert with_device_defaults(named, CPU, workers).optimizer.fused == (not fused)


def test_channels_last() -> None:
    convolution = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)))
    assert wants_channels_last(Settings(), convolution)
    assert not wants_channels_last(Settings(), nn.Linear(3, 4))
    assert not wants_channels_last(settings(train={"channels_last": False}), convolution)
    assert wants_channels_last(settings(train={"channels_last": True}), nn.Linear(3, 4))


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_fused_update_is_the_same_to_rounding(
    train: Any, relative_difference: Any, optimizer: str
) -> None:
    small = {
        "run.data": "synthetic:1x8x8,10,train=96,validation=24",
        "train.epochs": 2,
        "train.precision": "fp64",
        "optimizer.name": optimizer,
        "optimizer.momentum": 0.9 if optimizer == "sgd" else 0.0,
        "optimizer.weight_decay": 0.01,
    }
    fused = train(1, small, folder="fused").trainer.task.replica
    assert all(group["fused"] for group in fused.optimizer.param_groups)
    plain = train(1, small | {"optimizer.fused": False}, folder="plain").trainer.task.replica
    assert not any(group["fused"] for group in plain.optimizer.param_groups)
    assert relative_difference(fused.named_tensors(), plain.named_tensors()) < 1e-12
