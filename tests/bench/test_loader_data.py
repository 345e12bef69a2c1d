"""What `bench loader` loads, and that its entrants load the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from arignote.bench import loader_index
from arignote.bench.loader_entrants import Draw, OneCore
from arignote.bench.loader_images import copy_images, find_images, make_images
from arignote.bench.loader_index import write_index
from arignote.bench.loader_plan import Source
from arignote.bench.loader_starts import _run
from arignote.bench.torch_folder import TorchFolder
from arignote.data.class_folders import IMAGES, labels, paths
from arignote.data.open import open_data
from arignote.data.shard_index import read_index
from arignote.errors import ArignoteError

ZEROS, ONES = [0.0] * 3, [255.0] * 3


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_images_are_made_from_a_seed(tmp_path: Path) -> None:
    for name, count in (("a", 9), ("b", 2)):
        make_images(tmp_path / name, count)
    made = names(tmp_path / "a")
    assert len(made) == 10
    assert made[:2] == ["train/class00000/0000000.jpg", "train/class00000/0000008.jpg"]
    assert made[-1] == "val/class00000/0000000.jpg"
    same = "train/class00001/0000001.jpg"
    assert (tmp_path / "a" / same).read_bytes() == (tmp_path / "b" / same).read_bytes()
    sizes = [(tmp_path / "a" / name).stat().st_size for name in made]
    # ImageNet's files have 110 kB on average.
    assert 90_000 < np.mean(sizes) < 130_000


def test_images_of_a_tar_are_copied_evenly(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for number in range(10):
            path = tmp_path / f"n0{number % 2}_{number}.JPEG"
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
            tar.add(path, path.name)
    samples = find_images(tmp_path / "images.tar", class_from_name=True)
    assert len(samples) == 10
    copy_images(samples, tmp_path / "few", 3)
    assert names(tmp_path / "few") == [
        "train/class00000/0000000.JPEG",
        "train/class00000/0000001.JPEG",
        "train/class00001/0000002.JPEG",
        "val/class00000/0000000.jpg",
    ]
    copied = (tmp_path / "few/train/class00001/0000002.JPEG").read_bytes()
    assert copied == (tmp_path / "n01_3.JPEG").read_bytes()
    copy_images(samples, tmp_path / "all", 100)
    assert len(names(tmp_path / "all")) == 11
    # As a folder of class folders it is found again.
    assert len(find_images(tmp_path / "all", class_from_name=False)) == 10


def peers(folder: Path, size: int, *, mirror: bool) -> tuple[Any, TorchFolder]:
    make_images(folder, 6)
    ours: Any = open_data(f"imagefolder:{folder},size={size},keep=false", "none")
    ours.learn({"mean": ZEROS, "deviation": ONES})
    train, _ = IMAGES.list_splits(folder)
    numbers = labels(train, tuple(train)).tolist()
    return ours, TorchFolder(paths(train), numbers, size, ZEROS, ONES, mirror=mirror)


@pytest.mark.parametrize("size", [64, 224])
def test_torch_has_the_same_samples_and_nearly_the_same_pixels(tmp_path: Path, size: int) -> None:
    ours, theirs = peers(tmp_path, size, mirror=False)
    assert len(theirs) == 6
    batch = ours.train_batch(np.arange(6), seed=0, epoch=0)
    for index in range(6):
        inputs, target = theirs[index]
        assert (inputs.shape, inputs.dtype) == ((3, size, size), batch.inputs.dtype)
        assert target == int(batch.targets[index])
        # They cut after scaling, and at whole pixels; we scale what we cut.
        apart = [float((inputs - other).abs().mean()) for other in batch.inputs]
        assert int(np.argmin(apart)) == index
        assert apart[index] < 5 / 255 < min(apart[:index] + apart[index + 1 :])


def test_torch_mirrors_some(tmp_path: Path) -> None:
    ours, theirs = peers(tmp_path, 32, mirror=True)
    plain = ours.train_batch(np.zeros(1, np.int64), seed=0, epoch=0).inputs[0]
    mirrored = set()
    for _ in range(40):
        inputs, _ = theirs[0]
        straight, turned = ((inputs - other).abs().mean() for other in (plain, plain.flip(-1)))
        mirrored.add(bool(turned < straight))
    assert mirrored == {True, False}


def test_all_draw_the_same_samples() -> None:
    a, b = Draw(5, 4), Draw(5, 4)
    at_once = a.batches(5)
    assert np.array_equal(at_once, [*b.batches(2), *b.batches(3)])
    order = np.concatenate(at_once)
    for epoch in range(4):
        assert sorted(order[5 * epoch : 5 * epoch + 5]) == list(range(5))


@pytest.mark.parametrize("holes", [True, False])
def test_a_large_index(tmp_path: Path, monkeypatch: Any, holes: bool) -> None:
    monkeypatch.setattr(loader_index, "TRAIN_IMAGES", 3000)
    monkeypatch.setattr(loader_index, "VALIDATION_IMAGES", 10)
    if not holes:
        truncate = os.truncate

        def full(file: int, size: int) -> None:
            if size > 2**20:
                raise OSError("disk full")
            truncate(file, size)

        monkeypatch.setattr(os, "truncate", full)
    written = write_index(tmp_path / "index")
    assert read_index(tmp_path / "index") == written
    assert written.size == (256 if holes else 8)
    assert [shard.images for shard in written.train.shards] == [1365, 1365, 270]
    blocks = sum(path.stat().st_blocks for path in (tmp_path / "index").glob("*.bin"))
    assert blocks * 512 < 2**20
    found = loader_index.opened(str(tmp_path / "index"))
    assert found["seconds"] > 0


def test_processes_that_end_are_told(tmp_path: Path, capfd: Any) -> None:
    message = "loader_index ended with code 2: it said why above"
    with pytest.raises(ArignoteError, match=message):
        _run("loader_index", str(tmp_path / "none"))
    source = Source(f"shards:{tmp_path / 'none'}", "none", {"mean": ZEROS, "deviation": ONES})
    core = OneCore("shards uint8", source, 4)
    with pytest.raises(ArignoteError, match="the process that loads shards uint8 ended: it said"):
        core.turn([np.zeros(4, np.int64)])
    core.close()
    assert "arignote: error: " in capfd.readouterr().err


def test_workers_of_torch_end_with_a_user_that_is_killed(tmp_path: Path, wait_until: Any) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    program = tmp_path / "user.py"
    program.write_text(USER.format(path=str(path)))
    user = psutil.Popen([sys.executable, str(program)], stdout=subprocess.PIPE)
    with user.stdout:
        assert user.stdout.readline() == b"at work\n"
        family = user.children(recursive=True)
        # The resource tracker, the fork server, and two workers.
        assert len(family) == 4
        user.kill()
        user.wait()
    wait_until(lambda: not any(p.is_running() for p in family), 30, "the end of all of them")


USER = """
import time
from arignote.bench.torch_folder import Batches, TorchFolder, data_loader

if __name__ == "__main__":
    dataset = TorchFolder([{path!r}] * 4, [0] * 4, 8, [0.0] * 3, [1.0] * 3, mirror=False)
    batches = Batches()
    batches.batches = [[0, 1], [2, 3]] * 9
    for _ in data_loader(dataset, batches, 2):
        print("at work", flush=True)
        time.sleep(600)
"""


def test_what_workers_of_torch_import_is_lean() -> None:
    # They import this module, and `__main__` again: what it imports would be ours to answer for.
    code = "import sys, json, arignote.bench.{0}; print(json.dumps(sorted(sys.modules)))"
    for name, absent in (
        ("torch_folder", {"pydantic", "psutil", "arignote.config.settings"}),
        ("loader", {"torch", "mpi4py"}),
        ("loader_core", {"torch", "mpi4py"}),
    ):
        command = [sys.executable, "-c", code.format(name)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert absent.isdisjoint(json.loads(found)), name
