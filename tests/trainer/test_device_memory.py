"""GPUs that are full, told in one line."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from arignote import accelerator
from arignote.comm.location import Location
from arignote.comm.serial import SerialWorld
from arignote.config.load import nest, resolve
from arignote.errors import UserError
from arignote.models.base import Model
from arignote.trainer.device_memory import (
    Claim,
    bytes_asked,
    bytes_to_train,
    explained,
    full,
    require_room,
)

GIB = 2**30
REMEDY = r": use a smaller --batch-size or model, fewer workers there, another device, or end what"


def claim(gpu, needed, free):
    return Claim(f"cuda:{gpu} of host a (H100)", f"GPU-{gpu}", needed * GIB, free * GIB, 80 * GIB)


def at(rank, gpu="0"):
    return Location(rank, "a", f"cuda:{gpu}", "H100", f"GPU-{gpu}", "0", 1, [0], True, "")


def test_a_device_with_room():
    assert full([]) == ""
    assert full([claim(0, 30, 60), claim(1, 30, 30), claim(0, 30, 61)]) == ""


def test_one_that_is_full():
    line = full([claim(0, 30, 60), claim(1, 2, 1)])
    assert re.match(
        r"cuda:1 of host a \(H100\) has 1.00 of 80.00 GiB free, but weights, gradients and "
        r"optimizer need at least 2.00 GiB" + REMEDY,
        line,
    )


def test_what_workers_need_together():
    line = full([claim(0, 30, 60), claim(0, 31, 62)])
    assert "has 60.00 of 80.00 GiB free" in line
    assert "need at least 61.00 GiB for the 2 workers on it: use" in line


class Own(Model):
    def optimizer(self, params):
        raise AssertionError("not asked yet")


@pytest.mark.parametrize(
    ("model", "changes", "moments"),
    [
        (Model(), {}, 0),
        # bsp may share out what the optimizer keeps among its four workers.
        (Model(), {"optimizer.momentum": 0.9}, 0.25),
        (Model(), {"optimizer.momentum": 0.9, "run.rule": "local-sgd"}, 1),
        (Model(), {"optimizer.name": "adamw", "run.rule": "easgd"}, 2),
        (Model(), {"optimizer.name": "rmsprop", "optimizer.momentum": 0.9}, 0.5),
        (Own(), {"optimizer.name": "adamw", "run.rule": "easgd"}, 0),
    ],
)
def test_what_a_model_needs(model, changes, moments):
    module = nn.Sequential(nn.Linear(10, 20, bias=False), nn.BatchNorm1d(20))
    module[0].weight.requires_grad_(False)
    settings = resolve([("", nest({"run.model": "m", **changes}, ""))])
    # 200 weights, 40 that are trained, 40 of statistics, and a counter of 8 bytes.
    expected = 4 * (200 + 40 + 40) + 8 + 4 * 40 * (1 + moments)
    assert bytes_to_train(model, module, settings, 4) == expected


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(accelerator, "name", lambda index: "H100")
    monkeypatch.setattr(accelerator, "identity", lambda device: "GPU-7")
    monkeypatch.setattr(accelerator, "memory_bytes", lambda index: (GIB, 80 * GIB))
    return torch.device("cuda", 0)


def test_room_is_asked_for(gpu, monkeypatch):
    require_room(SerialWorld(), gpu, GIB)
    require_room(SerialWorld(), torch.device("cpu"), 10**15)
    with pytest.raises(UserError, match=r"^cuda:0 of host .* \(H100\) has 1.00 of 80.00 GiB free"):
        require_room(SerialWorld(), gpu, GIB + 1)

    def fails(index):
        raise RuntimeError(message)

    monkeypatch.setattr(accelerator, "memory_bytes", fails)
    message = "CUDA error: out of memory\nCUDA kernel errors might be ..."
    expected = r"^worker 0: cuda:0 of host \S+ \(H100\) is full, there is no room even to begin"
    with pytest.raises(UserError, match=expected + REMEDY):
        require_room(SerialWorld(), gpu, 1)
    message = "CUDA error: an illegal memory access"
    with pytest.raises(RuntimeError, match="illegal"):
        require_room(SerialWorld(), gpu, 1)


TORCH = (
    "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 79.15 GiB of "
    "which 12.00 MiB is free."
)


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (torch.cuda.OutOfMemoryError(TORCH), int(1.5 * GIB)),
        (torch.cuda.OutOfMemoryError(TORCH.replace("1.50 GiB", "20.00 MiB")), 20 * 2**20),
        (RuntimeError("CUDA error: out of memory"), None),
        (RuntimeError("HIP out of memory. Tried to allocate 512 bytes."), 512),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), None),
    ],
)
def test_errors_of_a_devices_memory(error, asked):
    assert accelerator.is_out_of_memory(error)
    assert bytes_asked(error) == asked


def test_an_error_in_training(gpu, monkeypatch):
    where = [at(0), at(1, gpu="1"), at(2)]
    error = explained(torch.cuda.OutOfMemoryError(TORCH), where, 2)
    assert isinstance(error, UserError)
    assert re.match(
        r"worker 2: cuda:0 of host a \(H100\), which 2 workers share, has no room for 1.50 GiB "
        r"more \(1.00 of 80.00 GiB free\)" + REMEDY,
        str(error),
    )
    error = explained(torch.cuda.OutOfMemoryError(TORCH), where, 1)
    assert "(H100) has no room for 1.50 GiB more" in str(error)


def test_errors_of_another_kind_stay():
    error = RuntimeError("shape mismatch")
    assert explained(error, [at(0)], 0) is error
    memory = torch.cuda.OutOfMemoryError(TORCH)
    # On a server, and before the workers have met.
    assert explained(memory, [at(0)], 1) is memory
    assert explained(memory, [], 0) is memory
