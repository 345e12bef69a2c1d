"""`wds`: the same samples as webdataset's own reader, and tars that are not what they should be."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from arignote.data.open import open_data
from arignote.data.tar_index import TarImages
from arignote.errors import DataError, UserError


def png(red=0, size=(6, 4)):
    with io.BytesIO() as file:
        Image.new("RGB", size, (red, 0, 0)).save(file, "PNG")
        return file.getvalue()


def write_tar(path, members, form=tarfile.PAX_FORMAT):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))


def samples(first, count):
    """Pairs of files; the red value of an image is its number, its label that modulo 3."""
    for number in range(first, first + count):
        yield f"{number:04}.png", png(number)
        yield f"{number:04}.cls", f"{number % 3}\n".encode()


@pytest.fixture
def folder(tmp_path):
    write_tar(tmp_path / "train-000.tar", samples(0, 4))
    write_tar(tmp_path / "train-001.tar", samples(4, 3))
    write_tar(tmp_path / "val-000.tar", samples(100, 2))
    return tmp_path


def their_samples(path):
    """By webdataset's reader; its own way to open files leaves them open."""
    with path.open("rb") as file:
        files = tar_file_expander([{"url": str(path), "stream": file}])
        return list(group_by_keys(files))


def red(data, split, count):
    return data._images(split, np.arange(count))[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("pattern", ["train-{000..001}.tar", "train-*.tar"])
def test_samples(folder, pattern):
    data = open_data(f"wds:{folder}/{pattern}", "none")
    assert (data.train_size, data.validation_size) == (7, 2)
    assert (data.sample_shape, data.classes) == ((3, 4, 6), ("0", "1", "2"))
    assert red(data, "train", 7) == list(range(7))
    assert red(data, "validation", 2) == [100, 101]
    assert data.train_batch(np.array([6, 2]), seed=0, epoch=0).targets.tolist() == [0, 2]
    assert data.validation_batch(np.arange(2)).targets.tolist() == [1, 2]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_the_same_as_webdataset_reads(tmp_path, form):
    odd = [
        *samples(0, 2),
        ("__meta__", b"of no sample"),
        ("__hidden__/a.jpg", b"of no sample"),
        ("sub.d/one.PNG", png(7)),
        ("sub.d/one.txt", b"a caption"),
        ("sub.d/one.json", json.dumps({"label": 2, "by": "me"}).encode()),
        ("sub.d/two.cls", b" 1 "),
        ("sub.d/two.seg.png", b"another kind"),
        ("sub.d/two.jpeg", png(8)),
        ("name", b"without a suffix"),
        (f"{'long' * 24}/{'name' * 20}.jpg", png(9)),
        (f"{'long' * 24}/{'name' * 20}.cls", b"0"),
        (".hidden", b"of no sample"),
    ]
    paths = [tmp_path / "train-0.tar", tmp_path / "train-1.tar"]
    write_tar(paths[0], odd, form)
    write_tar(paths[1], samples(5, 3), form)
    ours = TarImages([str(path) for path in paths])
    theirs = [sample for path in paths for sample in their_samples(path)]
    assert ours.keys == [sample["__key__"] for sample in theirs]
    for place, sample in enumerate(theirs):
        images = [sample[suffix] for suffix in ("jpg", "jpeg", "png") if suffix in sample]
        assert images == [ours.read(place)]
        label = sample["cls"] if "cls" in sample else json.loads(sample["json"])["label"]
        assert int(label) == ours.labels[place]
    assert len(ours) == 8


def test_validation_by_name_and_by_option(folder):
    write_tar(folder / "other.tar", samples(50, 1))
    data = open_data(f"wds:{folder}/train-000.tar,validation={folder}/other.tar", "none")
    assert (data.train_size, red(data, "validation", 1)) == (4, [50])
    (folder / "val-000.tar").rename(folder / "test-7.tar")
    data = open_data(f"wds:{folder}/train-{{000..001}}.tar,validation={folder}/test-*.tar", "none")
    assert data.validation_size == 2
    # A range is as long as the training set's, so any number will do.
    assert open_data(f"wds:{folder}/train-{{000..001}}.tar", "none").validation_size == 2
    for name, source in (("train", "train-000"), ("validation", "test-7")):
        (folder / "by" / name).mkdir(parents=True)
        (folder / f"{source}.tar").rename(folder / "by" / name / "0.tar")
    assert open_data(f"wds:{folder}/by/train/*.tar", "none").validation_size == 2


def test_class_names(folder):
    (folder / "classes.txt").write_text("cat\ndog\nelk\n")
    assert open_data(f"wds:{folder}/train-*.tar", "none").classes == ("cat", "dog", "elk")
    (folder / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(
        DataError, match=r"train-\*.tar: label 2 at position 2, expected 0\.\.1, th"
    ):
        open_data(f"wds:{folder}/train-*.tar", "none")


def test_size(folder):
    write_tar(folder / "train-001.tar", [("a.png", png(9, (20, 10))), ("a.cls", b"0")])
    message = (
        r"train-001.tar: a is 20x10 pixels, the first image 6x4: bring all to N pixels a side "
        r"with wds:.*/train-\*.tar,size=N$"
    )
    with pytest.raises(DataError, match=message):
        open_data(f"wds:{folder}/train-*.tar", "none").train_batch(np.array([4]), seed=0, epoch=0)
    data = open_data(f"wds:{folder}/train-*.tar,size=5", "none")
    assert data.sample_shape == (3, 5, 5)
    assert red(data, "train", 5) == [0, 1, 2, 3, 9]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.cls", b"0")], r"sample a has no jpg, jpeg, png, only cls: its files must follow"),
        ([("a.jpg", b"")], r"sample a has no cls, and no json, only jpg: its files must follow"),
        ([("a.jpg", b""), ("b.jpg", b""), ("a.cls", b"0")], r"sample a has no cls, and no json"),
        ([("a.jpg", b""), ("a.cls", b"cat")], r"a.cls holds b'cat', expected a class number from"),
        ([("a.jpg", b""), ("a.cls", b"-1")], r"a.cls holds b'-1', expected a class number from 0"),
        ([("a.jpg", b""), ("a.json", b"[1]")], r"a.json holds .*expected a .* from 0 as \"label\""),
        ([("a.jpg", b""), ("a.json", b"{}")], r"a.json holds b'{}', expected"),
        ([("a.jpg", b""), ("a.json", b"\xff")], r"a.json holds b'.xff', expected"),
        ([("a.jpg", b""), ("a.json", b'{"label": true}')], r"a.json holds .*, expected"),
        ([("a.jpg", b""), ("a.JPG", b""), ("a.cls", b"0")], r"holds a.jpg twice: give each sample"),
        ([], r"train-\*.tar holds no samples: expected KEY.jpg and KEY.cls in each"),
        ([("a.jpg", b"x"), ("a.cls", b"0")], r"train-0.tar: a is no JPEG or PNG image: replace it"),
    ],
)
def test_samples_that_are_wrong(tmp_path, members, message):
    write_tar(tmp_path / "train-0.tar", members)
    write_tar(tmp_path / "val-0.tar", samples(0, 1))
    with pytest.raises(DataError, match=message):
        open_data(f"wds:{tmp_path}/train-*.tar", "none")


def test_a_label_of_validation_only(folder):
    write_tar(folder / "val-000.tar", [("a.png", png()), ("a.cls", b"3")])
    with pytest.raises(DataError, match=r"val-\*.tar: label 3 at position 0, expected 0\.\.2, the"):
        open_data(f"wds:{folder}/train-{{000..001}}.tar", "none")


def test_files_that_are_no_plain_tars(folder):
    path, plain = folder / "train-000.tar", (folder / "train-000.tar").read_bytes()
    path.write_bytes(gzip.compress(plain))
    with pytest.raises(
        DataError, match=r"000.tar is compressed \(gzip\): unpack it to a plain .ta"
    ):
        open_data(f"wds:{folder}/train-*.tar", "none")
    for content in (b"", b"no tar" * 200, plain[:700]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"000.tar is no tar, or damaged \(.*\): get it again"):
            open_data(f"wds:{folder}/train-*.tar", "none")


def test_a_tar_that_changes_or_goes(folder):
    path = folder / "train-001.tar"
    images = TarImages([str(path)])
    path.write_bytes(path.read_bytes()[:550])
    with pytest.raises(DataError, match=r"train-001.tar has become shorter: do not change data wh"):
        images.read(0)
    path.unlink()
    with pytest.raises(DataError, match=r"train-001.tar cannot be read \(No such file.*: make i"):
        images.read(0)


def test_the_form_of_the_spec(folder):
    with pytest.raises(UserError, match=r"takes 1 argument, got none: write wds:PATTERN"):
        open_data("wds", "none")
    with pytest.raises(UserError, match="data set wds: unknown key 'sise': did you mean 'size'"):
        open_data(f"wds:{folder}/train-*.tar,sise=3", "none")
