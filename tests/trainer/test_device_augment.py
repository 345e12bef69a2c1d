"""`loading.augment = "device"`: whole images come, and become the same bits there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from arignote.config.load import nest, resolve
from arignote.config.settings import Settings
from arignote.data.base import Split
from arignote.data.byte_images import fed_dataset
from arignote.data.images import ImageDataset
from arignote.data.open import open_data
from arignote.durable import file_sha256
from arignote.errors import UserError
from arignote.loading.pool import Want
from arignote.trainer.placing import open_placing

CPU = torch.device("cpu")
DEVICE = {"loading.normalise": "device", "loading.augment": "device"}
SMALL = {
    "run.model": "digits-cnn",
    "train.epochs": 1,
    "train.batch_size": 4,
    "schedule.scaling": "none",
}
STORED = 16


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """29 and 7 stored images of noise."""
    folder = tmp_path / "shards"
    folder.mkdir()
    index: dict[str, Any] = {"format": "arignote-shards", "version": 1, "size": STORED, "seed": 0}
    index |= {"source": "x", "classes": [str(n) for n in range(10)], "skipped": []}
    index |= {"mean": [120.5, 99.0, 1.0], "deviation": [60.0, 3.7, 8.1]}
    for split, count in (("train", 29), ("validation", 7)):
        generator = np.random.default_rng(count)
        pixels = generator.integers(0, 256, (count, STORED, STORED, 3), np.uint8)
        (folder / f"{split}.bin").write_bytes(pixels.tobytes())
        np.save(folder / f"{split}.npy", (np.arange(count) % 10).astype(np.int32))
        sums = [file_sha256(folder / f"{split}.{end}") for end in ("bin", "npy")]
        index[split] = {"shards": [{"file": f"{split}.bin", "images": count, "sha256": sums[0]}]}
        index[split]["labels"] = {"file": f"{split}.npy", "sha256": sums[1]}
    (folder / "index.json").write_text(json.dumps(index))
    return f"shards:{folder}"


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    """10 and 3 pictures that are wider than high."""
    for split, count in (("train", 10), ("val", 3)):
        folder = tmp_path / "pictures" / split / "cat"
        folder.mkdir(parents=True)
        for place in range(count):
            pixels = np.random.default_rng(place).integers(0, 256, (16, 24, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{place}.png")
    return f"imagefolder:{tmp_path / 'pictures'}"


def settings(augment: str, **others: Any) -> Settings:
    given = DEVICE | {"train.augment": augment, "run.seed": 7, **others}
    return resolve([("", nest(given, ""))])


def check(spec: str, augment: str) -> None:
    """Batches of both splits are those of the data set itself."""
    data = open_data(spec, augment)
    assert isinstance(data, ImageDataset)
    given = settings(augment)
    fed = fed_dataset(data, given)
    placing = open_placing(given, data, nn.Conv2d(3, 1, 1), CPU)
    indices = np.arange(data.train_size)[::-1].copy()
    for epoch in (0, 3):
        expected = data.train_batch(indices, seed=7, epoch=epoch)
        raw = fed.train_batch(indices, seed=7, epoch=epoch)
        assert raw.inputs.dtype == torch.uint8
        assert raw.inputs.shape[1:3] == data.whole_size
        batch = placing.place(raw, Want("train", epoch, indices))
        assert batch.inputs.equal(expected.inputs) and batch.targets.equal(expected.targets)
    indices = np.arange(data.validation_size)
    batch = placing.place(fed.validation_batch(indices), Want("validation", 0, indices))
    assert batch.inputs.equal(data.validation_batch(indices).inputs)


@pytest.mark.parametrize("augment", ["none", "mirror", "crop", "crop+mirror"])
def test_the_same_bits(shards: str, pictures: str, augment: str) -> None:
    specs = [shards, f"{shards},size=11", pictures, "synthetic:1x1x9,2,train=9,validation=3"]
    for spec in specs:
        check(spec, augment)


def test_what_whole_images_are_cut_from_differs(shards: str) -> None:
    """Or the check above would hold of any two that do nothing."""
    cut, whole = (open_data(f"{shards},size=11", augment) for augment in ("crop+mirror", "none"))
    indices = np.arange(29)
    batches = [data.train_batch(indices, seed=7, epoch=0).inputs for data in (cut, whole)]
    assert (batches[0] != batches[1]).flatten(1).any(dim=1).sum() > 20


def test_the_same_run_also_resumed_in_the_middle(train: Any, shards: str) -> None:
    given = SMALL | {"run.data": f"{shards},size=12", "train.augment": "crop+mirror"}
    usual = train(1, given, folder="usual")
    whole = train(1, given | DEVICE | {"loading.loaders": 0}, folder="whole")
    assert whole.sha == usual.sha
    assert whole.summary["metrics"] == usual.summary["metrics"]
    loaded = given | DEVICE | {"loading.loaders": 2}
    assert train(1, loaded, folder="parts", stop_at=4).summary["status"] == "stopped"
    rest = train(1, loaded, folder="parts", resume=True)
    assert rest.trainer.task.feed.facts.loaders == 2
    assert rest.sha == usual.sha


@pytest.mark.parametrize(
    ("augment", "others", "message"),
    [
        (
            "crop",
            {"loading.normalise": "loader"},
            r"hands over .*got loading\.normalise='loader': set it to 'd",
        ),
        ("crop", {"train.mix": "mixup"}, r"does not mix images, got train\.mix='mixup': leave lo"),
        ("resized-crop", {}, r"knows crop and mirror, got resized-crop: leave loading\.augment at"),
        ("crop+color-jitter", {}, r"knows crop and mirror, got color-jitter: .*out of train\.aug"),
    ],
)
def test_what_the_device_does_not_do(augment: str, others: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"loading\.augment='device' {message}") as caught:
        settings(augment, **others)
    assert "\n" not in str(caught.value)


def test_a_models_own_data_with_other_steps() -> None:
    data = open_data("synthetic:3x8x8,2", "mirror+color-jitter")
    with pytest.raises(UserError, match=r"knows crop and mirror, got color-jitter"):
        fed_dataset(data, settings("none"))


def test_the_windows_of_a_split() -> None:
    data = open_data("synthetic:3x8x8,2", "crop")
    assert isinstance(data, ImageDataset)
    splits: tuple[Split, ...] = ("train", "validation")
    train, validation = (data.windows(split, np.arange(200)) for split in splits)
    # An eighth of 8 pixels outside at most.
    assert {-1, 0, 1} == set(train.y.tolist()) == set(train.x.tolist())
    assert set(validation.y.tolist()) == {0} and not validation.mirrored.any()
