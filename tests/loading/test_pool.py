"""Batches that loaders make are those that the data set makes, whatever happens to a loader."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from arignote.errors import DataError, LoaderError
from arignote.loading.pool import Pool, Want

SYNTHETIC = "synthetic:3x8x8,10,train=50,validation=20"


def check(data: Any, pool: Pool, want: Want) -> None:
    """Take a batch, and compare it with what the data set makes here."""
    arrays = pool.take(want)
    expected = (
        data.train_batch(want.indices, seed=5, epoch=want.epoch)
        if want.split == "train"
        else data.validation_batch(want.indices)
    )
    assert np.array_equal(arrays.inputs, expected.inputs.numpy())
    assert arrays.inputs.dtype == expected.inputs.numpy().dtype
    assert np.array_equal(arrays.targets, expected.targets.numpy())
    pool.release()


def wants(split: Any, count: int, size: int, epoch: int = 0) -> list[Want]:
    order = np.random.default_rng(epoch).permutation(count)
    return [Want(split, epoch, order[at : at + size]) for at in range(0, count, size)]


@pytest.mark.parametrize("loaders", [1, 3])
def test_the_same_batches_in_any_order(open_pool: Any, loaders: int) -> None:
    data, pool = open_pool(SYNTHETIC, "crop+mirror", loaders=loaders)
    training = wants("train", 50, 8, epoch=3)
    assert len(training[-1].indices) == 2
    asked = [want for want in training if pool.ask(want)]
    assert len(asked) == min(2 * loaders + 2, len(training))
    # Those of another split come first, though all memory is given out.
    for want in [*wants("validation", 20, 8), *training]:
        check(data, pool, want)
    # The same samples in another epoch look otherwise.
    check(data, pool, Want("train", 4, training[0].indices))
    assert pool.loaders.restarts == 0
    assert pool.loaders.seconds["copy"] > 0


def test_what_is_ordered_ahead_is_bounded_in_bytes(open_pool: Any) -> None:
    one = 8 * 8 + 8 * 3 * 8 * 8 * 4 + 8 * 8
    data, pool = open_pool(SYNTHETIC, ahead_bytes=3 * one)
    training = wants("train", 50, 8)
    assert [pool.ask(want) for want in training[:4]] == [True, True, True, False]
    data, pool = open_pool(SYNTHETIC, ahead_bytes=1)
    assert [pool.ask(want) for want in training[:3]] == [True, True, False]
    for want in training:
        check(data, pool, want)


def test_tokens(open_pool: Any, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words of a text, " * 40)
    data, pool = open_pool(f"text:{tmp_path / 'text.txt'},length=16")
    for want in [*wants("train", 8, 3, epoch=2), *wants("validation", 4, 3)]:
        check(data, pool, want)


def test_a_loader_that_is_killed(open_pool: Any, caplog: Any) -> None:
    data, pool = open_pool(SYNTHETIC, "crop+mirror", loaders=2)
    training = wants("train", 50, 8)
    check(data, pool, training[0])
    server = pool.loaders._server._process.pid
    for want in training[1:4]:
        victim = psutil.Process(server).children()[0]
        os.kill(victim.pid, signal.SIGKILL)
        check(data, pool, want)
    with caplog.at_level(logging.WARNING, "arignote"):
        family = psutil.Process(server).children()
        os.kill(server, signal.SIGKILL)
        # Or they might answer before they end with it.
        psutil.wait_procs(family, 20)
        for want in training[4:]:
            check(data, pool, want)
    assert "the server of the loaders of worker 1 was ended" in caplog.text
    assert pool.loaders.restarts >= 3


def test_one_that_dies_again_and_again(open_pool: Any, monkeypatch: Any) -> None:
    _, pool = open_pool(SYNTHETIC, loaders=1)
    server = pool.loaders._server._process.pid
    hear = pool.loaders.hear

    def kill_first(seconds: float) -> Any:
        for loader in psutil.Process(server).children():
            os.kill(loader.pid, signal.SIGKILL)
        return hear(seconds)

    monkeypatch.setattr(pool.loaders, "hear", kill_first)
    with pytest.raises(LoaderError, match="loader 0 of worker 1 ended 3 times on the same samples"):
        for want in wants("train", 50, 8) * 20:
            pool.take(want)
            pool.release()


def test_one_that_stalls(open_pool: Any) -> None:
    _, pool = open_pool(SYNTHETIC, loaders=1, timeout_seconds=20.0)
    pool.take(wants("train", 50, 8)[0])
    pool._timeout_seconds = 0.2
    (loader,) = psutil.Process(pool.loaders._server._process.pid).children()
    loader.suspend()
    with pytest.raises(
        LoaderError, match=r"loader 0 of worker 1 has brought nothing for 0\.2 s \(loading\.timeout"
    ):
        pool.take(wants("train", 50, 8)[1])


def test_a_file_that_is_no_picture(open_pool: Any, tmp_path: Path) -> None:
    for name in ("train/a/0.png", "train/a/1.png", "test/a/0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    _, pool = open_pool(f"imagefolder:{tmp_path}")
    (tmp_path / "train/a/1.png").write_bytes(b"none")
    with pytest.raises(DataError, match=r"1\.png is no JPEG or PNG image"):
        pool.take(Want("train", 0, np.array([0, 1])))


def test_data_that_is_gone(open_pool: Any, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some words of a text, " * 40)
    _, pool = open_pool(f"text:{tmp_path / 'text.txt'},length=16")
    (tmp_path / "text.txt").unlink()
    # Or it was faster than we are, and has opened it.
    os.kill(pool.loaders._server._process.pid, signal.SIGKILL)
    with pytest.raises(DataError, match=r"text\.txt cannot be read"):
        pool.take(Want("train", 0, np.array([0, 1])))


def test_tables(open_pool: Any, tmp_path: Path) -> None:
    """pyarrow has threads, and the loaders are forked from a process that has used it."""
    table = pa.table({"text": [f"text {n} of 30" for n in range(30)], "label": [0, 1] * 15})
    for split in ("train", "test"):
        parquet.write_table(table, tmp_path / f"{split}-0.parquet", row_group_size=4)
    data, pool = open_pool(f"parquet:{tmp_path},length=8")
    for want in [*wants("train", 30, 8), *wants("validation", 30, 8)]:
        check(data, pool, want)
