"""What every member of the registry of data sets must do, on tiny generated files."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pyarrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from arignote.config.settings import Loading, Settings, Train
from arignote.data.base import Batch
from arignote.data.byte_images import fed_dataset
from arignote.data.images import normalise
from arignote.data.open import open_data
from arignote.data.prepare.run import Options, prepare
from arignote.errors import UserError
from arignote.registry import DATA


def random_images(count, *shape):
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def make_digits(folder):
    return "digits"


def make_synthetic(folder):
    return "synthetic:3x16x16,10,train=40,validation=12"


def make_imagefolder(folder):
    for split, count in (("train", 20), ("test", 5)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for place, pixels in enumerate(random_images(count, 16, 24, 3)):
                Image.fromarray(pixels).save(folder / split / name / f"{place:03}.png")
    return f"imagefolder:{folder}"


class Silent:
    """Is told how a preparation goes."""

    def begin(self, images, done):
        pass

    def decoded(self, images):
        pass

    def shard(self, name):
        pass


def make_shards(folder):
    make_imagefolder(folder / "images")
    prepare(folder / "images", folder / "shards", Options(size=16, workers=1), Silent())
    return f"shards:{folder / 'shards'},size=15"


def make_cifar10(folder):
    for name in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        records = random_images(8, 3073)
        records[:, 0] %= 10
        (folder / name).write_bytes(records.tobytes())
    return f"cifar10:{folder}"


def make_idx(folder):
    for prefix, count in (("train", 40), ("t10k", 10)):
        for kind, array in (
            ("images-idx3", random_images(count, 28, 28)),
            ("labels-idx1", (np.arange(count) % 10).astype(np.uint8)),
        ):
            lengths = b"".join(length.to_bytes(4, "big") for length in array.shape)
            content = bytes((0, 0, 8, array.ndim)) + lengths + array.tobytes()
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(content)
    return f"idx:{folder}"


def make_wds(folder):
    for split, count in (("train-0", 24), ("train-1", 16), ("val-0", 10)):
        with tarfile.open(folder / f"{split}.tar", "w") as tar:
            for place, pixels in enumerate(random_images(count, 16, 12, 3)):
                image = io.BytesIO()
                Image.fromarray(pixels).save(image, "PNG")
                label = str(place % 3).encode()
                for name, content in ((f"{place}.png", image.getvalue()), (f"{place}.cls", label)):
                    header = tarfile.TarInfo(name)
                    header.size = len(content)
                    tar.addfile(header, io.BytesIO(content))
    return f"wds:{folder}/train-{{0..1}}.tar"


def make_parquet(folder):
    for split, count in (("train", 40), ("validation", 10)):
        images = []
        for pixels in random_images(count, 16, 12, 3):
            image = io.BytesIO()
            Image.fromarray(pixels).save(image, "PNG")
            images.append({"bytes": image.getvalue(), "path": None})
        table = pyarrow.table({"image": images, "label": [place % 3 for place in range(count)]})
        parquet.write_table(table, folder / f"{split}-0.parquet", row_group_size=16)
    return f"parquet:{folder}"


def make_parquet_texts(folder):
    for split, count in (("train", 40), ("test", 10)):
        texts = [f"The {place + 1}th film" + " kind" * place for place in range(count)]
        table = pyarrow.table({"text": texts, "label": [place % 2 for place in range(count)]})
        parquet.write_table(table, folder / f"{split}-0.parquet")
    return f"parquet:{folder},vocabulary=20,length=16"


def make_npy(folder):
    for split, count in (("train", 40), ("test", 10)):
        np.save(folder / f"x_{split}.npy", random_images(count, 16, 12, 3))
        np.save(folder / f"y_{split}.npy", np.arange(count) % 5)
    return f"npy:{folder}"


def make_numbers(folder):
    for split, count in (("train", 40), ("test", 10)):
        np.save(folder / f"x_{split}.npy", random_images(count, 4, 3, 2) / 256)
        np.save(folder / f"y_{split}.npy", np.arange(count) % 5)
    return f"npy:{folder}"


def make_text(folder):
    words = " ".join(f"word {number} of a text." for number in range(400))
    (folder / "text.txt").write_text(words)
    return f"text:{folder / 'text.txt'},length=16,validation=0.2"


def make_textfolder(folder):
    for split, count in (("train", 20), ("test", 5)):
        for name in ("good", "bad"):
            (folder / split / name).mkdir(parents=True)
            for place in range(count):
                text = f"A {name} film, the {place + 1}th of it's kind" + " kind" * place
                (folder / split / name / f"{place:03}.txt").write_text(text)
    return f"textfolder:{folder},vocabulary=20,length=16"


MAKERS = {
    "digits": make_digits,
    "synthetic": make_synthetic,
    "imagefolder": make_imagefolder,
    "shards": make_shards,
    "cifar10": make_cifar10,
    "idx": make_idx,
    "wds": make_wds,
    "parquet": make_parquet,
    "parquet texts": make_parquet_texts,
    "npy": make_npy,
    "npy numbers": make_numbers,
    "text": make_text,
    "textfolder": make_textfolder,
}
"""A second one of a member has a name of two words."""
NO_IMAGES = ("text", "textfolder", "parquet texts", "npy numbers")
"""Those whose samples are tokens or numbers; the others' are images."""
NAMES = list(MAKERS)
AUGMENTATIONS = ("none", "crop+mirror", "resized-crop+mirror+color-jitter+randaugment")


def test_every_member_has_a_maker():
    assert {name.split()[0] for name in NAMES} == {entry.name for entry in DATA}


@pytest.fixture(params=NAMES)
def spec(request, tmp_path):
    return MAKERS[request.param](tmp_path)


@pytest.fixture(params=[name for name in NAMES if name not in NO_IMAGES])
def images(request, tmp_path):
    return MAKERS[request.param](tmp_path)


@pytest.fixture(
    params=[(n, a) for n in NAMES for a in AUGMENTATIONS[: 1 if n in NO_IMAGES else None]],
    ids=str,
)
def data(request, tmp_path):
    name, augment = request.param
    return open_data(MAKERS[name](tmp_path), augment)


def check_batch(data, batch, count):
    assert isinstance(batch, Batch)
    assert batch.inputs.shape == (count, *data.sample_shape)
    assert batch.inputs.dtype == (torch.int64 if data.vocabulary else torch.float32)
    assert batch.inputs.is_contiguous()
    one_each = data.vocabulary == data.classes
    assert batch.targets.shape == ((count, *data.sample_shape) if one_each else (count,))
    assert batch.targets.dtype == torch.int64
    if count:
        assert batch.targets.min() >= 0
        assert batch.targets.max() < len(data.classes)
    if count and data.vocabulary:
        assert batch.inputs.min() >= 0
        assert batch.inputs.max() < len(data.vocabulary)


def test_shapes_and_types(data):
    assert len(data.sample_shape) == (1 if data.vocabulary else 3)
    assert data.skipped == ()
    for size in (data.train_size, min(data.train_size, 3), 0):
        check_batch(data, data.train_batch(np.arange(size), seed=0, epoch=0), size)
    for size in (data.validation_size, 1, 0):
        check_batch(data, data.validation_batch(np.arange(size)), size)


def test_a_batch_holds_the_samples_in_the_order_asked_for(data):
    indices = np.array([5, 0, data.train_size - 1, 5])
    batch = data.train_batch(indices, seed=7, epoch=3)
    for place in range(len(indices)):
        alone = data.train_batch(indices[place : place + 1], seed=7, epoch=3)
        assert alone.inputs[0].equal(batch.inputs[place])
        assert alone.targets[0].equal(batch.targets[place])
    indices = np.array([1, data.validation_size - 1, 0])
    batch = data.validation_batch(indices)
    for place in range(len(indices)):
        alone = data.validation_batch(indices[place : place + 1])
        assert alone.inputs[0].equal(batch.inputs[place])
        assert alone.targets[0].equal(batch.targets[place])


def test_the_same_when_opened_again(spec):
    one, other = open_data(spec, "none"), open_data(spec, "none")
    indices = np.arange(16)
    first = one.train_batch(indices, seed=1, epoch=2)
    second = other.train_batch(indices, seed=1, epoch=2)
    assert first.inputs.equal(second.inputs) and first.targets.equal(second.targets)


@pytest.mark.parametrize("augment", AUGMENTATIONS[1:])
def test_seed_and_epoch_decide_the_augmentation(images, augment):
    plain, augmented = open_data(images, "none"), open_data(images, augment)
    indices = np.arange(16)
    base = augmented.train_batch(indices, seed=1, epoch=2)
    again = open_data(images, augment).train_batch(indices, seed=1, epoch=2)
    assert base.inputs.equal(again.inputs) and base.targets.equal(again.targets)
    assert base.inputs.equal(augmented.train_batch(indices, seed=1, epoch=2).inputs)
    assert not base.inputs.equal(augmented.train_batch(indices, seed=1, epoch=3).inputs)
    assert not base.inputs.equal(augmented.train_batch(indices, seed=2, epoch=2).inputs)
    unchanged = plain.train_batch(indices, seed=1, epoch=2)
    assert unchanged.inputs.equal(plain.train_batch(indices, seed=2, epoch=3).inputs)
    assert unchanged.targets.equal(base.targets)


@pytest.mark.parametrize("augment", AUGMENTATIONS[1:])
def test_validation_is_not_augmented(images, augment):
    indices = np.arange(open_data(images, "none").validation_size)
    plain = open_data(images, "none").validation_batch(indices)
    assert plain.inputs.equal(open_data(images, augment).validation_batch(indices).inputs)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_images_are_mixed_whole_or_in_bytes(images, mix):
    data = open_data(images, AUGMENTATIONS[-1])
    whole = fed_dataset(data, Settings(train=Train(mix=mix)))
    in_bytes = fed_dataset(
        data, Settings(train=Train(mix=mix), loading=Loading(normalise="device"))
    )
    indices = np.arange(9)
    batch = whole.train_batch(indices, seed=1, epoch=2)
    raw = in_bytes.train_batch(indices, seed=1, epoch=2)
    expected = np.empty(batch.inputs.shape, np.float32)
    normalise(raw.inputs.numpy(), data.mean, data.deviation, expected)
    assert batch.inputs.equal(torch.from_numpy(expected))
    assert not batch.inputs.equal(data.train_batch(indices, seed=1, epoch=2).inputs)
    assert batch.targets.equal(raw.targets)
    assert batch.targets.shape == (9, len(data.classes))
    torch.testing.assert_close(batch.targets.sum(dim=1), torch.ones(9))


def test_training_inputs_are_normalised(images):
    data = open_data(images, "none")
    inputs = data.train_batch(np.arange(data.train_size), seed=0, epoch=0).inputs
    deviation, mean = torch.std_mean(inputs, dim=(0, 2, 3))
    # The numbers come from at most 1,000 images of all.
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=0.02, rtol=0)
    torch.testing.assert_close(deviation, torch.ones_like(deviation), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_cannot_be_augmented(name, tmp_path):
    spec = MAKERS[name](tmp_path)
    with pytest.raises(
        UserError, match=f"data set {name.split()[0]} holds no images to augment: use train.a"
    ):
        open_data(spec, "mirror")
    with pytest.raises(UserError, match="unknown augmentation 'mirrors': did you mean 'mirror'"):
        open_data(spec, "mirrors")


def test_a_batch_can_be_changed_without_changing_the_data(data):
    before = data.train_batch(np.arange(4), seed=0, epoch=0)
    expected = before.inputs.clone(), before.targets.clone()
    before.inputs.zero_()
    before.targets.zero_()
    after = data.train_batch(np.arange(4), seed=0, epoch=0)
    assert after.inputs.equal(expected[0]) and after.targets.equal(expected[1])
