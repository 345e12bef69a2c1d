"""Every layout gives the same shards; what is wrong with each is told in a line."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arignote.cli import main
from arignote.data.shard_index import read_index
from arignote.errors import DataError

sys.path.insert(0, str(Path(__file__).parent))
from prepare_setup import SIZE, contents, damage, images_of, make_tar, prepare, refuse


def test_a_tar_gives_the_same_shards(source, tmp_path):
    prepare(source, tmp_path / "out")
    expected = contents(tmp_path / "out")
    for under in ("", "./", "top/"):
        out = tmp_path / f"out-{len(under)}"
        prepare(make_tar(tmp_path / "all.tar", source, under), out)
        found = contents(out)
        del found["index.json"]
        assert found == {name: expected[name] for name in expected if name != "index.json"}


# ImageNet as downloaded


@pytest.fixture
def imagenet(source, tmp_path):
    """The same images, as archives."""
    folder = tmp_path / "imagenet"
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as tar:
        for label in source.glob("train/*"):
            tar.add(make_tar(tmp_path / "inner.tar", label), f"{label.name}.tar")
    lines = []
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for number, file in enumerate(sorted(source.rglob("val/*/*"))):
            name = f"ILSVRC2012_val_{number:08}.png"
            tar.add(file, name)
            lines.append(f"{name} {file.parent.name}\n")
    (folder / "val_labels.txt").write_text("".join(lines) + "\n")
    return folder


def test_the_archives_of_imagenet_give_the_same_shards(source, imagenet, tmp_path):
    prepare(source, tmp_path / "a")
    index = prepare(imagenet, tmp_path / "b")
    assert index.classes == ("class0", "class1", "class2")
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    del one["index.json"], other["index.json"]
    assert one == other


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("ILSVRC2012_img_val.tar", None, r"has ILSVRC2012_img_train.tar and no .*_val.tar: put"),
        ("val_labels.txt", None, r"no val_labels.txt: make it of lines FILENAME CLASS, as docs/"),
        (
            "val_labels.txt",
            b"",
            r"val_labels.txt has no line for .*_00000000.png: add ILSV.* CLASS",
        ),
        (
            "val_labels.txt",
            b"\na b c\n",
            r"val_labels.txt line 2: got 'a b c', expected FILENAME C",
        ),
        ("val_labels.txt", b"a.png clas0", r"line 1: unknown class 'clas0': did you mean 'class0'"),
        (
            "val_labels.txt",
            b"\xff\xfe",
            r"val_labels.txt is not UTF-8: expected lines FILENAME CLA",
        ),
        ("ILSVRC2012_img_train.tar", b"none" * 256, r"train.tar is no whole, uncompressed tar \("),
    ],
)
def test_what_is_wrong_with_imagenet(imagenet, tmp_path, file, content, message):
    (imagenet / file).unlink()
    if content is not None:
        (imagenet / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(imagenet, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_inner_tar_that_is_cut_off(imagenet, source, tmp_path):
    inner = make_tar(tmp_path / "inner.tar", source / "train" / "class0")
    inner.write_bytes(inner.read_bytes()[:1024])
    with tarfile.open(imagenet / "ILSVRC2012_img_train.tar", "w") as tar:
        tar.add(inner, "class0.tar")
    with pytest.raises(
        DataError, match=r"train\.tar: class0\.tar is no whole, uncompressed tar \("
    ):
        prepare(imagenet, tmp_path / "out")
    with tarfile.open(imagenet / "ILSVRC2012_img_train.tar", "w") as tar:
        tar.add(source, "class0", recursive=False)
    with pytest.raises(DataError, match=r"train\.tar holds no tars of images: get it again"):
        prepare(imagenet, tmp_path / "out")


def test_a_label_file_that_cannot_be_read(imagenet, tmp_path, monkeypatch):
    refuse(monkeypatch, "read_text")
    with pytest.raises(DataError, match=r"val_labels.txt cannot be read \(Permission denied\): ma"):
        prepare(imagenet, tmp_path / "out")


# Names that begin with their class


@pytest.fixture
def named(tmp_path):
    """As samples of ImageNet are given away: one image of each of forty classes."""
    for number in range(40):
        path = tmp_path / "named" / f"n{number:08}_some_thing.JPEG"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (10, 9), (number * 6, 0, 0)).save(path)
    (tmp_path / "named" / "README.txt").touch()
    return tmp_path / "named"


def test_classes_from_names(named, tmp_path, capsys):
    tar = make_tar(tmp_path / "named.tar", named, "imagenet-sample/")
    for place, out in ((named, "a"), (tar, "b")):
        options = ["--class-from-name", "--val-share", "0.25", "--workers", "1"]
        with pytest.raises(SystemExit) as ended:
            main(["prepare", str(place), str(tmp_path / out), *options, "--size", str(SIZE)])
        assert ended.value.code == 0, capsys.readouterr().err
    index = read_index(tmp_path / "a")
    assert index.classes == tuple(f"n{number:08}" for number in range(40))
    assert index.train.images + index.validation.images == 40
    assert 4 <= index.validation.images <= 16
    images, labels = images_of(tmp_path / "a", "validation")
    # JPEG does not keep each colour to the last bit.
    assert np.rint(images[:, 0, 0, 0] / 6).tolist() == labels.tolist()
    # A tar differs in the places, and so in what the index says of its source; in nothing else.
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert {n: c for n, c in a.items() if n != "index.json"} == {
        n: c for n, c in b.items() if n != "index.json"
    }


def test_an_image_keeps_its_split_when_others_come(named, tmp_path):
    few = prepare(named, tmp_path / "few", validation_share=0.5)
    Image.new("RGB", (9, 9)).save(named / "a_new.jpg")
    more = prepare(named, tmp_path / "more", validation_share=0.5)
    old = images_of(tmp_path / "few", "validation")[1] + 1
    new = [label for label in images_of(tmp_path / "more", "validation")[1] if label]
    assert (more.classes[1:], new) == (few.classes, old.tolist())


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1e-9, r"--val-share 1e-09 leaves no validation image of 40: raise it"),
        (1 - 1e-9, r"--val-share 1 leaves no training image of 40: lower it"),
    ],
)
def test_shares_that_leave_nothing(named, tmp_path, share, message):
    with pytest.raises(DataError, match=message):
        prepare(named, tmp_path / "out", validation_share=share)


def test_names_without_a_class(named, tmp_path):
    Image.new("RGB", (9, 9)).save(named / "plain.jpg")
    with pytest.raises(DataError, match=r"named: plain.jpg does not begin with a class and an und"):
        prepare(named, tmp_path / "out", validation_share=0.1)
    with pytest.raises(
        DataError, match=r"source.* has neither a folder train nor ILSVRC.*add --cla"
    ):
        shutil.copytree(named, tmp_path / "source")
        prepare(tmp_path / "source", tmp_path / "out")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"none holds no .jpg, .jpeg, .png file: name a folder or"):
        prepare(tmp_path / "none", tmp_path / "out", validation_share=0.1)
    with pytest.raises(DataError, match=r"nowhere does not exist: name a folder of images, or a"):
        prepare(tmp_path / "nowhere", tmp_path / "out", validation_share=0.1)


def test_a_folder_of_names_that_cannot_be_listed(named, tmp_path, monkeypatch):
    refuse(monkeypatch, "iterdir")
    with pytest.raises(DataError, match=r"named cannot be listed \(Permission denied\): make it r"):
        prepare(named, tmp_path / "out", validation_share=0.1)


# What goes wrong with sources


def test_folders_and_tars_of_no_known_layout(source, tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist: name a folder of images, or a"):
        prepare(tmp_path / "nowhere", tmp_path / "out")
    tar = make_tar(tmp_path / "x.tar", source / "train")
    with pytest.raises(DataError, match=r"x.tar has no images in train: expected train/CLASS/\*.j"):
        prepare(tar, tmp_path / "out")
    (source / "val" / "class2").rename(source / "val" / "klass2")
    tar = make_tar(tmp_path / "x.tar", source)
    with pytest.raises(DataError, match=r"x.tar: unknown class 'klass2': did you mean 'class2'"):
        prepare(tar, tmp_path / "out")
    shutil.rmtree(source / "val")
    tar = make_tar(tmp_path / "x.tar", source)
    with pytest.raises(DataError, match=r"x.tar has no images in val, validation, test: expected"):
        prepare(tar, tmp_path / "out")


def test_tars_that_are_not_whole(source, tmp_path):
    tar = make_tar(tmp_path / "x.tar", source)
    whole = tar.read_bytes()
    with tarfile.open(tar) as opened:
        headers = [member.offset for member in opened]
    for cut in (headers[5], headers[5] + 100, headers[5] + 600, 0):
        tar.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"x.tar is no whole, uncompressed tar \(.*\): decompr"):
            prepare(tar, tmp_path / "out")
    tar.write_bytes(whole[: headers[5]])
    with pytest.raises(DataError, match=rf"tar \(no end mark at byte {headers[5]:,}\): decompress"):
        prepare(tar, tmp_path / "out")
    # At a damaged header, tarfile believes to be at the end.
    tar.write_bytes(whole[: headers[5]] + b"x" * 512 + whole[headers[5] + 512 :])
    with pytest.raises(DataError, match=rf"tar \(no header at byte {headers[5]:,}\): decompress"):
        prepare(tar, tmp_path / "out")
    with tarfile.open(tar, "w:gz") as packed:
        packed.add(source, "")
    with pytest.raises(DataError, match=r"x.tar is no whole, uncompressed tar"):
        prepare(tar, tmp_path / "out")


@pytest.mark.parametrize("place", ["train/class1/2.png", "val/class0/1.png"])
def test_the_last_of_a_name_in_a_tar_wins(source, tmp_path, place):
    """As tar itself has it: tar -r and tar -u add at the end what is there already."""
    prepare(source, tmp_path / "good")
    good = (source / place).read_bytes()
    damage(source / place)
    tar = make_tar(tmp_path / "x.tar", source)
    (source / place).write_bytes(good)
    with tarfile.open(tar, "a") as opened:
        opened.add(source / place, f"./{place}")
    index = prepare(tar, tmp_path / "out", skip_bad=True)
    assert (index.train.images, index.validation.images, index.skipped) == (11, 5, ())
    found, expected = contents(tmp_path / "out"), contents(tmp_path / "good")
    del found["index.json"], expected["index.json"]
    assert found == expected


def test_the_last_of_a_name_in_an_inner_tar_wins(source, imagenet, tmp_path):
    prepare(imagenet, tmp_path / "good")
    inner = make_tar(tmp_path / "inner.tar", source / "train" / "class0")
    with tarfile.open(inner, "a") as opened:
        opened.add(source / "train" / "class0" / "1.png", "1.png")
    with tarfile.open(imagenet / "ILSVRC2012_img_train.tar", "a") as tar:
        tar.add(inner, "class0.tar")
    prepare(imagenet, tmp_path / "out")
    found, expected = contents(tmp_path / "out"), contents(tmp_path / "good")
    del found["index.json"], expected["index.json"]
    assert found == expected


def test_links_in_a_tar(source, tmp_path):
    (source / "train" / "class0" / "link.png").symlink_to("0.png")
    tar = make_tar(tmp_path / "x.tar", source)
    with pytest.raises(DataError, match=r"x.tar: train/class0/link.png is a link or sparse: make"):
        prepare(tar, tmp_path / "out")


@pytest.mark.parametrize("name", ["all.tar", "ILSVRC2012_img_train.tar"])
def test_tars_that_cannot_be_read(source, imagenet, tmp_path, monkeypatch, name):
    tar = make_tar(tmp_path / "all.tar", source)
    refuse(monkeypatch, "open")
    with pytest.raises(DataError, match=rf"{name} cannot be read \(Permission denied\): make it r"):
        prepare(tar if name == "all.tar" else imagenet, tmp_path / "out")


def test_a_file_that_is_gone_when_it_reads_samples(source, tmp_path):
    (source / "train" / "class0" / "link.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"link.png cannot be read \(No such file or directory\)"):
        prepare(source, tmp_path / "out", skip_bad=True)


def test_names_that_are_not_utf_8(source, tmp_path):
    (source / "train" / "class0" / os.fsdecode(b"\xff.png")).touch()
    with pytest.raises(DataError, match=r"the name '.*udcff.png' is not UTF-8: rename the file"):
        prepare(source, tmp_path / "out")
