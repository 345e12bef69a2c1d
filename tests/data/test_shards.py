"""`shards`: the same pixels as the generic path gives, and what is wrong with a folder of them."""

from __future__ import annotations

import json
import resource

import numpy as np
import pytest

from arignote.config.augment_options import ResizedCropOptions
from arignote.data import shards as module
from arignote.data import stages
from arignote.data.augmentation.chain import apply_steps, open_steps
from arignote.data.augmentation.resized_crop import ResizedCrop
from arignote.data.draws import sample_bits
from arignote.data.images import ImageDataset
from arignote.data.open import open_data
from arignote.data.stored_images import StoredImages
from arignote.durable import file_sha256
from arignote.errors import DataError, UserError

STORED = 16
COUNTS = {"train": (4, 4, 3), "validation": (4, 0, 1)}
"""Images in each shard; a shard whose images were all bad is empty."""


def noise(split):
    count = sum(COUNTS[split])
    return np.random.default_rng(count).integers(0, 256, (count, STORED, STORED, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A prepared folder, written here, so that the format cannot change unseen."""
    index = {"format": "arignote-shards", "version": 1, "size": STORED, "seed": 0, "source": "x"}
    index |= {"classes": ["cat", "dog", "eel"], "skipped": ["train/cat/bad.jpg"]}
    index |= {"mean": [1.5, 2.5, 3.5], "deviation": [2.0, 4.0, 8.0]}
    for split, counts in COUNTS.items():
        index[split] = {"shards": []}
        start = 0
        for number, count in enumerate(counts):
            path = tmp_path / f"{split}-{number:05d}.bin"
            path.write_bytes(noise(split)[start : start + count].tobytes())
            entry = {"file": path.name, "images": count, "sha256": file_sha256(path)}
            index[split]["shards"].append(entry)
            start += count
        path = tmp_path / f"{split}-labels.npy"
        np.save(path, (np.arange(start) % 3).astype(np.int32))
        index[split]["labels"] = {"file": path.name, "sha256": file_sha256(path)}
    (tmp_path / "index.json").write_text(json.dumps(index))
    return tmp_path


def images(data, split, indices, **when):
    out = np.zeros((len(indices), *data.sample_shape[1:], 3), np.uint8)
    data.load_images(split, indices, out, **when)
    return out


ORDER = np.array([10, 0, 3, 4, 7, 8, 0, 9, 5])


def test_what_the_index_says(folder):
    data = open_data(f"shards:{folder}", "none")
    assert data.classes == ("cat", "dog", "eel")
    assert (data.train_size, data.validation_size) == (11, 5)
    assert data.sample_shape == (3, STORED, STORED)
    assert data.skipped == ("train/cat/bad.jpg",)
    assert (data.mean, data.deviation) == ((1.5, 2.5, 3.5), (2.0, 4.0, 8.0))
    batch = data.train_batch(ORDER, seed=0, epoch=0)
    assert batch.targets.tolist() == (ORDER % 3).tolist()
    expected = (noise("train")[ORDER] - np.array(data.mean)) / np.array(data.deviation)
    np.testing.assert_allclose(batch.inputs.numpy().transpose(0, 2, 3, 1), expected, rtol=1e-6)


def test_of_256_stored_pixels_224_are_used(folder):
    index = json.loads((folder / "index.json").read_text())
    index["size"] = 256
    for split in COUNTS:
        for shard in index[split]["shards"]:
            with (folder / shard["file"]).open("r+b") as file:
                file.truncate(shard["images"] * 256 * 256 * 3)
    (folder / "index.json").write_text(json.dumps(index))
    assert open_data(f"shards:{folder}", "none").sample_shape == (3, 224, 224)
    assert open_data(f"shards:{folder},size=256", "none").sample_shape == (3, 256, 256)


def test_no_shard_is_mapped_before_it_is_asked_for(folder, monkeypatch):
    mapped = []
    memmap = np.memmap
    monkeypatch.setattr(
        np, "memmap", lambda p, *a, **o: mapped.append(p.name) or memmap(p, *a, **o)
    )
    data = open_data(f"shards:{folder}", "none")
    labels = ["train-labels.npy", "validation-labels.npy"]
    assert [name for name in mapped if name not in labels] == []
    mapped.clear()
    for _ in range(2):
        images(data, "train", np.array([5, 4, 10]))
        assert mapped == ["train-00001.bin", "train-00002.bin"]


@pytest.mark.parametrize("size", [STORED, 11])
@pytest.mark.parametrize("mode", ["none", "mirror", "crop", "crop+mirror"])
def test_validation_images_are_the_middle(folder, mode, size):
    data = open_data(f"shards:{folder},size={size}", mode)
    corner = (STORED - size) // 2
    middle = noise("validation")[:, corner : corner + size, corner : corner + size]
    np.testing.assert_array_equal(images(data, "validation", np.arange(5)), middle)
    np.testing.assert_array_equal(images(data, "validation", np.array([4, 0])), middle[[4, 0]])


@pytest.mark.parametrize("size", [STORED, 11])
@pytest.mark.parametrize("mode", ["none", "mirror", "crop", "crop+mirror"])
def test_training_images_are_those_of_the_generic_path(folder, mode, size):
    data = open_data(f"shards:{folder},size={size}", mode)
    for seed, epoch in ((0, 0), (3, 5)):
        when = {"seed": seed, "epoch": epoch}
        found = images(data, "train", ORDER, **when)
        np.testing.assert_array_equal(found, reference(ORDER, mode, size, **when))
        if not mode.startswith("crop") or size == STORED:
            generic = np.empty_like(found)
            ImageDataset.load_images(data, "train", ORDER, generic, **when)
            np.testing.assert_array_equal(found, generic)
    assert images(data, "train", ORDER[:0]).shape == (0, size, size, 3)


def reference(indices, mode, size, *, seed, epoch):
    """By the steps, but for windows, which are cut as their crop is: number by number."""
    stored, all_bits = noise("train")[indices], sample_bits(indices, seed=seed, epoch=epoch)
    room = STORED - size
    if not mode.startswith("crop") or not room:
        corner = room // 2
        middle = stored[:, corner : corner + size, corner : corner + size]
        return apply_steps(open_steps(mode, 3), middle, all_bits)
    windows = []
    for image, bits in zip(stored, all_bits, strict=True):
        # y from bits 0 to 23, x from bits 24 to 47, the mirror from bit 63: as in the steps.
        y, x = ((int(bits) >> shift) % 2**24 * (room + 1) >> 24 for shift in (0, 24))
        window = image[y : y + size, x : x + size]
        windows.append(window[:, ::-1] if mode == "crop+mirror" and int(bits) >> 63 else window)
    return np.stack(windows)


@pytest.mark.parametrize("size", [STORED, 11])
def test_a_resized_crop_is_cut_out_of_all_that_is_stored(folder, size):
    data = open_data(f"shards:{folder},size={size}", "resized-crop:scale=0.3+mirror+color-jitter")
    bits = sample_bits(ORDER, seed=3, epoch=5)
    crop = ResizedCrop(ResizedCropOptions(scale=0.3))
    cut = np.stack(
        [
            crop.cut(image, int(own), (size, size))
            for image, own in zip(noise("train")[ORDER], bits, strict=True)
        ]
    )
    expected = apply_steps(open_steps("mirror+color-jitter", 3), cut, bits)
    np.testing.assert_array_equal(images(data, "train", ORDER, seed=3, epoch=5), expected)
    plain = open_data(f"shards:{folder},size={size}", "none")
    np.testing.assert_array_equal(
        images(data, "validation", np.arange(5)), images(plain, "validation", np.arange(5))
    )


@pytest.mark.parametrize("size", [STORED, 11])
@pytest.mark.parametrize("first", ["", "crop+", "mirror+", "crop+mirror+"])
def test_further_steps_follow_what_is_copied(folder, first, size):
    spec, when = f"shards:{folder},size={size}", {"seed": 3, "epoch": 5}
    begun = images(open_data(spec, first.rstrip("+") or "none"), "train", ORDER, **when)
    found = images(open_data(spec, f"{first}color-jitter"), "train", ORDER, **when)
    bits = sample_bits(ORDER, **when)
    expected = apply_steps(open_steps("color-jitter", 3), begun, bits)
    np.testing.assert_array_equal(found, expected)


def test_inputs_are_the_normalised_images(folder):
    data = open_data(f"shards:{folder},size=11", "crop+mirror")
    inputs = data.train_batch(ORDER, seed=1, epoch=2).inputs.numpy().transpose(0, 2, 3, 1)
    pixels = images(data, "train", ORDER, seed=1, epoch=2)
    expected = (pixels - np.array(data.mean)) / np.array(data.deviation)
    np.testing.assert_allclose(inputs, expected, rtol=1e-6)


# What is wrong


def change(folder, **entries):
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index | entries))


def save_labels(folder, labels):
    np.save(folder / "train-labels.npy", labels)


def zipped_labels(folder):
    with (folder / "train-labels.npy").open("wb") as file:
        np.savez(file, labels=np.zeros(11, np.int32))


ANEW = r"prepare the data anew with --force"
DAMAGES = {
    "no index": (
        lambda folder: (folder / "index.json").unlink(),
        r"index.json cannot be read \(No such file.*\): name a folder that `arignote prepare` made",
    ),
    "not whole": (
        lambda folder: (folder / "index.json").rename(folder / "progress.json"),
        r" is not whole, its preparation was cut short: run `arignote prepare` again, it goes on",
    ),
    "no JSON": (
        lambda folder: (folder / "index.json").write_text("{"),
        rf"index.json is damaged \(.*\): {ANEW}",
    ),
    "another index": (
        lambda folder: (folder / "index.json").write_text("[]"),
        r"index.json is no index of shards: name a folder that `arignote prepare` made",
    ),
    "another version": (
        lambda folder: change(folder, version=2),
        rf"index.json has version 2, this Arignote reads 1: {ANEW}",
    ),
    "a field": (
        lambda folder: change(folder, mean=[1.0]),
        rf"index.json: mean: got \[1.0\], tuple should have at least 3 items.*: {ANEW}",
    ),
    "no numbers": (
        lambda folder: change(folder, mean=[1.0, float("nan"), 2.0]),
        rf"index.json: mean: got nan, .* finite number: {ANEW}",
    ),
    "a division by zero": (
        lambda folder: change(folder, deviation=[1.0, 2.0, 0.0]),
        rf"index.json: deviation: got 0.0, .* greater than 0: {ANEW}",
    ),
    "too deep": (
        lambda folder: (folder / "index.json").write_text("[" * 100_000),
        rf"index.json is damaged \(.*recursion.*\): {ANEW}",
    ),
    "labels in an archive": (
        lambda folder: zipped_labels(folder),
        rf"train-labels.npy is damaged \(.*\): copy it again, or {ANEW}",
    ),
    "a path": (
        lambda folder: change(
            folder, train={"shards": [], "labels": {"file": "../x.npy", "sha256": ""}}
        ),
        r"index.json: train.labels.file: got '../x.npy', string should match pattern",
    ),
    "a shard is missing": (
        lambda folder: (folder / "train-00001.bin").unlink(),
        rf"train-00001.bin cannot be read \(No such file .*\): copy it again, or {ANEW}",
    ),
    "a shard is truncated": (
        lambda folder: (folder / "validation-00000.bin").write_bytes(b"x" * 3000),
        rf"validation-00000.bin holds 3,000 bytes, expected 3,072: copy it again, or {ANEW}",
    ),
    "no labels": (
        lambda folder: (folder / "train-labels.npy").unlink(),
        r"train-labels.npy cannot be read \(No such file",
    ),
    "labels truncated": (
        lambda folder: (folder / "train-labels.npy").write_bytes(b"\x93NUMPY"),
        rf"train-labels.npy is damaged \(.*\): copy it again, or {ANEW}",
    ),
    "labels pickled": (
        lambda folder: np.save(folder / "train-labels.npy", np.array([{}])),
        r"train-labels.npy is damaged \(",
    ),
    "too few labels": (
        lambda folder: save_labels(folder, np.zeros(10, np.int32)),
        rf"holds int32 of shape \(10,\), expected int32 of shape \(11,\): copy it again, or {ANEW}",
    ),
    "labels of another type": (
        lambda folder: save_labels(folder, np.zeros(11)),
        r"train-labels.npy holds float64 of shape \(11,\), expected int32",
    ),
    "labels out of range": (
        lambda folder: save_labels(folder, np.arange(11, dtype=np.int32)),
        r"train-labels.npy holds labels 0 ... 10, expected 0 ... 2: copy it again",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damages_are_told(folder, name):
    damage, message = DAMAGES[name]
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        open_data(f"shards:{folder}", "none")
    assert "\n" not in str(caught.value)


def test_options(folder):
    with pytest.raises(
        UserError, match=r"got size=17, .* holds images of 16: use at most that, or"
    ):
        open_data(f"shards:{folder},size=17", "none")
    with pytest.raises(
        UserError, match=r"data set shards: unknown key 'sise': did you mean 'size'"
    ):
        open_data(f"shards:{folder},sise=3", "none")
    with pytest.raises(DataError, match=r"does not exist: write shards:DIR\[,size=N\]"):
        open_data(f"shards:{folder / 'none'}", "none")


def test_a_shard_that_is_removed_while_it_is_used(folder):
    data = open_data(f"shards:{folder}", "none")
    (folder / "train-00001.bin").unlink()
    assert images(data, "train", np.arange(4)).shape == (4, STORED, STORED, 3)
    with pytest.raises(
        DataError, match=r"00001.bin cannot be mapped \(No such file or directory\)"
    ):
        images(data, "train", np.array([4]))


def test_a_shard_that_is_cut_while_it_is_used(folder):
    data = open_data(f"shards:{folder}", "none")
    with (folder / "train-00001.bin").open("r+b") as file:
        file.truncate(10)
    with pytest.raises(
        DataError, match=r"00001.bin cannot be mapped \(mmap length .*\): was it removed or cut"
    ):
        images(data, "train", np.array([4]))


@pytest.mark.parametrize("augment", ["crop+mirror", "resized-crop"])
def test_the_shard_that_is_read_is_shown(folder, monkeypatch, augment):
    """For who reads one that is cut is killed, and can say nothing."""
    shown, view = [], memoryview(bytearray(stages.VIEW_BYTES))
    monkeypatch.setattr(stages, "_view", [])
    stages.show_in(view)
    find, cut = StoredImages._images, ResizedCrop.cut

    def spy(function):
        def spied(*arguments):
            shown.append(stages.file_shown(view))
            return function(*arguments)

        return spied

    monkeypatch.setattr(StoredImages, "_images", spy(find))
    monkeypatch.setattr(ResizedCrop, "cut", spy(cut))
    data = open_data(f"shards:{folder},size=11", augment)
    images(data, "train", np.array([4, 0, 10]))
    expected = [str(folder / f"train-0000{number}.bin") for number in (1, 0, 2)]
    assert list(dict.fromkeys(shown)) == expected
    assert stages.file_shown(view) == ""


@pytest.mark.parametrize(
    ("limits", "raised"),
    [
        ((1024, 4096), []),
        ((16, 4096), [(module._OTHER_FILES + 6, 4096)]),
        ((16, resource.RLIM_INFINITY), [(module._OTHER_FILES + 6, resource.RLIM_INFINITY)]),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), []),
    ],
)
def test_open_files_are_allowed(folder, monkeypatch, limits, raised):
    changed = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: changed.append(new))
    open_data(f"shards:{folder}", "none")
    assert changed == raised


def test_open_files_that_may_not_be_allowed(folder, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (16, 32))
    with pytest.raises(
        DataError, match=r"has 6 shards, and a process may keep 32 files open: allow"
    ):
        open_data(f"shards:{folder}", "none")
