"""Data sets that a user wrote, in loaders: what they may do, and what is said when they fail."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from arignote.config.load import resolve
from arignote.config.model_source import find_model
from arignote.data.arrays import Arrays
from arignote.data.base import Batch, Dataset
from arignote.data.decode import BadImageError
from arignote.errors import DataError, ForeignError
from arignote.loading import process
from arignote.loading.loader import check_alike
from arignote.loading.pool import Pool, Want
from arignote.loading.process import ServerProcess, raise_failure
from arignote.loading.server import describe, failure_message
from arignote.loading.shapes import Shapes, shapes_of

OWN = """
import subprocess
import torch
from torch import nn
from arignote import Batch, DataError, Dataset, Model


class Damaged(DataError):
    pass


class Own(Dataset):
    classes = ("a", "b")
    sample_shape = (3, 4)
    train_size, validation_size = 29, 7
    # Not plain numbers, the second not to be set.
    mean = torch.tensor([1.5, 2.5])

    @property
    def deviation(self):
        return torch.ones(2, dtype=torch.float64).numpy()

    @classmethod
    def open(cls, spec, *, augment):
        return cls()

    def train_batch(self, indices, *, seed, epoch):
        if 20 in indices:
            raise SystemExit(3)
        if 21 in indices:
            raise Damaged("sample 21 is damaged")
        inputs = torch.from_numpy(indices).float()[:, None, None].expand(-1, 3, 4)
        return Batch(inputs, torch.full((len(indices), 2), 0.5))

    def validation_batch(self, indices):
        shape = (len(indices), 1, 4 if 6 not in indices else 1)
        return Batch(torch.ones(shape), torch.from_numpy(indices) % 2)


class OwnModel(Model):
    def build(self):
        return nn.Linear(5, 2)

    def data(self):
        # It goes on beside the loaders, whose server is its parent.
        self.helper = subprocess.Popen(["sleep", "600"])
        return Own()
"""


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    (tmp_path / "own.py").write_text(OWN)
    settings = resolve([("", {"run": {"model": f"{tmp_path / 'own.py'}:OwnModel"}})])
    model: Any = find_model(settings.run.model).load()()
    data = model.data()
    model.helper.kill()
    model.helper.wait()
    pool = Pool(
        ServerProcess(),
        describe(settings, data, own_data=True),
        shapes_of(data),
        loaders=2,
        samples=8,
        ahead_bytes=2**20,
        timeout_seconds=200.0,
        seed=5,
        worker=1,
    )
    helper: list[psutil.Process] = []
    try:
        yield pool
        helper = psutil.Process(pool.loaders._server._process.pid).children()
    finally:
        pool.close()
        for child in helper:
            if child.is_running():
                child.kill()


def taken(pool: Pool, split: Any, *indices: int) -> Arrays:
    pool.release()
    return pool.take(Want(split, 0, np.array(indices)))


def test_what_it_may_do(pool: Pool) -> None:
    arrays = taken(pool, "train", 3, 4, 5)
    assert arrays.inputs[:, 0, 0].tolist() == [3, 4, 5]
    assert arrays.targets.tolist() == [[0.5, 0.5]] * 3
    # Of another shape and type than in training.
    arrays = taken(pool, "validation", 3, 4, 5)
    assert arrays.inputs.shape == (3, 1, 4)
    assert (arrays.targets.tolist(), str(arrays.targets.dtype)) == ([1, 0, 1], "int64")
    server = pool.loaders._server
    children = psutil.Process(server._process.pid).children()
    (helper,) = (child for child in children if child.name() == "sleep")
    helper.kill()
    # Who makes another loader has heard of both ends.
    loader = next(child for child in children if child != helper)
    os.kill(loader.pid, signal.SIGKILL)
    assert taken(pool, "train", 6, 7).inputs[:, 0, 0].tolist() == [6, 7]
    assert pool.loaders.restarts == 1
    assert pool.loaders._server is server


def test_what_is_said_when_it_fails(pool: Pool) -> None:
    with pytest.raises(ForeignError, match=r"(?s)Traceback.*in train_batch.*SystemExit: 3"):
        taken(pool, "train", 20)
    with pytest.raises(DataError, match=r"^sample 21 is damaged$"):
        taken(pool, "train", 21)
    with pytest.raises(
        DataError, match=r"a validation batch of Own has inputs float32 of shape \(1, 1, 1\), exp"
    ):
        taken(pool, "validation", 6)
    # Nobody ended.
    assert taken(pool, "train", 1).inputs[0, 0, 0] == 1
    assert pool.loaders.restarts == 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((4, 1), np.float32), r"shape \(4, 1\), expected float32 of shape \(4, 3\), like"),
        (np.zeros((4, 3), np.int64), r"targets int64 of shape \(4, 3\), expected float32 of s"),
    ],
)
def test_nothing_is_repeated_or_converted(given: Any, message: str) -> None:
    out = np.zeros((4, 3), np.float32)
    check_alike(Arrays(out, out), Arrays(out, out), "train batch of Own")
    with pytest.raises(DataError, match=rf"a train batch of Own has .*{message}") as caught:
        check_alike(Arrays(out, given), Arrays(out, out), "train batch of Own")
    assert "\n" not in str(caught.value)


class Unvalidated(Dataset):
    """Without a sample of validation."""

    train_size, validation_size = 3, 0

    @classmethod
    def open(cls, spec: Any, *, augment: str) -> Unvalidated:
        return cls()

    def train_batch(self, indices: Any, *, seed: int, epoch: int) -> Batch:
        return Batch(torch.zeros(len(indices), 5), torch.zeros(len(indices), dtype=torch.int64))

    def validation_batch(self, indices: Any) -> Batch:
        raise AssertionError("nobody asks for what is not there")


def test_shapes_where_nothing_validates() -> None:
    shape = Shapes("float32", (5,), "int64", ())
    assert shapes_of(Unvalidated()) == {"train": shape, "validation": shape}


def test_what_is_known_is_plain() -> None:
    data = Unvalidated()
    data.mean, data.deviation = torch.tensor([1.5, 2.5]), np.ones(2, np.float32)  # type: ignore
    assert json.dumps(data.known()) == '{"mean": [1.5, 2.5], "deviation": [1.0, 1.0]}'


def test_errors_of_kinds_that_the_worker_does_not_know() -> None:
    class OwnError(DataError):
        pass

    for error in (OwnError("of the user's"), BadImageError("of the user's")):
        message = failure_message(error)
        assert message == {"kind": "DataError", "failure": "of the user's"}
        with pytest.raises(DataError, match="of the user's"):
            raise_failure(message)


def test_a_server_that_was_told_nothing_leaves_by_itself(monkeypatch: Any) -> None:
    # Or a machine that is busy would look as if it did not.
    monkeypatch.setattr(process, "_CLOSE_SECONDS", 60.0)
    server = ServerProcess()
    server.close()
    assert server._process.returncode == 0
