"""`arignote prepare`: every layout gives the same shards; whatever cuts it short, it goes on."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile

import numpy as np
import psutil
import pytest
from PIL import Image

from arignote.cli import main
from arignote.data.decode import decode
from arignote.data.prepare import decoding, output, run
from arignote.data.prepare.run import Options
from arignote.data.shard_index import read_index
from arignote.errors import ArignoteError, DataError

SIZE = 8
OPTIONS = Options(size=SIZE, workers=1)
FOUR_IMAGES = 4 * SIZE * SIZE * 3


class Silent:
    """Nobody is told, but what was told is kept."""

    def __init__(self):
        self.told = []

    def begin(self, images, done):
        self.told.append((images, done))

    def decoded(self, images):
        pass

    def shard(self, name):
        self.told.append(name)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(run, "_SHARD_BYTES", FOUR_IMAGES + 1)
    monkeypatch.setattr(decoding, "PART", 3)


@pytest.fixture
def source(tmp_path):
    """Eleven training images of three classes, five of validation, each of another colour."""
    for split, counts in (("train", (5, 4, 2)), ("val", (2, 0, 3))):
        for label, count in enumerate(counts):
            for place in range(count):
                path = tmp_path / "source" / split / f"class{label}" / f"{place}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = np.random.default_rng((len(split), label, place))
                pixels = noise.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    return tmp_path / "source"


def prepare(source, out, watcher=None, **changes):
    return run.prepare(source, out, Options(**{**vars(OPTIONS), **changes}), watcher or Silent())


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def images_of(folder, split):
    """Stored images and their labels, as the index has them."""
    part = getattr(read_index(folder), split)
    files = [np.fromfile(folder / shard.file, np.uint8) for shard in part.shards]
    assert [len(f) for f in files] == [shard.images * SIZE * SIZE * 3 for shard in part.shards]
    images = np.concatenate(files).reshape(-1, SIZE, SIZE, 3)
    return images, np.load(folder / part.labels.file)


def make_tar(path, folder, under=""):
    with tarfile.open(path, "w") as tar:
        # Not in the order of names.
        for file in sorted(folder.rglob("*.*"), reverse=True):
            tar.add(file, f"{under}{file.relative_to(folder)}")
    return path


def damage(path):
    path.write_bytes(path.read_bytes()[:60])
    return path


def test_every_image_is_stored_once_as_it_is_decoded(source, tmp_path):
    index = prepare(source, tmp_path / "out")
    assert index == read_index(tmp_path / "out")
    assert index.classes == ("class0", "class1", "class2")
    assert (index.train.images, index.validation.images, index.size) == (11, 5, SIZE)
    assert [shard.images for shard in index.train.shards] == [4, 4, 3]
    for split, folder in (("train", "train"), ("validation", "val")):
        images, labels = images_of(tmp_path / "out", split)
        assert labels.dtype == np.int32
        files = sorted((source / folder).rglob("*.png"))
        expected = [(decode(str(f), SIZE).tobytes(), int(f.parent.name[-1])) for f in files]
        stored = [(i.tobytes(), int(label)) for i, label in zip(images, labels, strict=True)]
        assert sorted(stored) == sorted(expected)
        # Training is shuffled, once; validation stays in the order of names.
        assert (stored == expected) == (split == "validation")


def test_mean_and_deviation_are_those_of_all_training_pixels(source, tmp_path):
    index = prepare(source, tmp_path / "out")
    pixels = images_of(tmp_path / "out", "train")[0].reshape(-1, 3)
    np.testing.assert_allclose(index.mean, pixels.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(index.deviation, pixels.std(axis=0), rtol=1e-12)


def test_a_tar_gives_the_same_shards(source, tmp_path):
    prepare(source, tmp_path / "out")
    expected = contents(tmp_path / "out")
    for under in ("", "./", "top/"):
        out = tmp_path / f"out-{len(under)}"
        prepare(make_tar(tmp_path / "all.tar", source, under), out)
        found = contents(out)
        del found["index.json"]
        assert found == {name: expected[name] for name in expected if name != "index.json"}


def test_several_processes_give_the_same_bytes(source, tmp_path):
    prepare(source, tmp_path / "one")
    prepare(source, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


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
        ("val_labels.txt", None, r"no val_labels.txt: make it of lines FILENAME CLASS, as docs/da"),
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


def refuse(monkeypatch, method):
    def raise_it(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(f"pathlib.Path.{method}", raise_it)


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
    # At a damaged header, tarfile believes to be at the end.
    tar.write_bytes(whole[: headers[5]] + b"x" * 512 + whole[headers[5] + 512 :])
    with pytest.raises(DataError, match=rf"tar \(no end mark at byte {headers[5]:,}\): decompress"):
        prepare(tar, tmp_path / "out")
    with tarfile.open(tar, "w:gz") as packed:
        packed.add(source, "")
    with pytest.raises(DataError, match=r"x.tar is no whole, uncompressed tar"):
        prepare(tar, tmp_path / "out")


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


def test_a_file_that_is_gone_when_it_is_decoded(source, tmp_path):
    (source / "train" / "class0" / "link.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"link.png cannot be read \(No such file or directory\)"):
        prepare(source, tmp_path / "out", skip_bad=True)


def test_names_that_are_not_utf_8(source, tmp_path):
    (source / "train" / "class0" / os.fsdecode(b"\xff.png")).touch()
    with pytest.raises(DataError, match=r"the name '.*udcff.png' is not UTF-8: rename the file"):
        prepare(source, tmp_path / "out")


# Bad images


def test_bad_images_are_named_and_then_left_out(source, tmp_path):
    bad = [damage(source / "train/class1/2.png"), damage(source / "val/class0/1.png")]
    with pytest.raises(
        DataError, match=r"train/class1/2.png is damaged \(.*: replace it, or lea.*"
    ):
        prepare(source, tmp_path / "out")
    # What was whole stays, and the option may be added.
    watcher = Silent()
    index = prepare(source, tmp_path / "out", watcher, skip_bad=True)
    assert index.skipped == ("train/class1/2.png", "val/class0/1.png")
    assert (index.train.images, index.validation.images) == (10, 4)
    images, labels = images_of(tmp_path / "out", "validation")
    assert labels.tolist() == [0, 2, 2, 2]
    np.testing.assert_array_equal(images[1], decode(str(source / "val/class2/0.png"), SIZE))
    pixels = images_of(tmp_path / "out", "train")[0].reshape(-1, 3)
    np.testing.assert_allclose(index.mean, pixels.mean(axis=0), rtol=1e-12)
    for path in bad:
        path.unlink()
    without = prepare(source, tmp_path / "without")
    assert sorted(images_of(tmp_path / "without", "train")[1]) == sorted(
        images_of(tmp_path / "out", "train")[1]
    )
    assert without.skipped == ()


def test_a_bad_image_in_a_tar_is_named_with_both(source, tmp_path):
    damage(source / "train/class1/2.png")
    tar = make_tar(tmp_path / "x.tar", source)
    with pytest.raises(DataError, match=r"x.tar: train/class1/2.png is damaged"):
        prepare(tar, tmp_path / "out")


def test_a_bad_image_may_be_replaced(source, tmp_path):
    prepare(source, tmp_path / "good")
    path = source / "train/class1/2.png"
    good = path.read_bytes()
    damage(path)
    with pytest.raises(DataError, match=r"2\.png is damaged"):
        prepare(source, tmp_path / "out")
    path.write_bytes(good)
    prepare(source, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "good")


@pytest.mark.parametrize("split", ["train", "val"])
def test_bad_images_only(source, tmp_path, split):
    for path in source.glob(f"{split}/*/*"):
        damage(path)
    with pytest.raises(DataError, match=rf"all {split}\w* images are bad: replace them, and begin"):
        prepare(source, tmp_path / "out", skip_bad=True)


# Cut short


def test_after_the_last_whole_shard(source, tmp_path, monkeypatch):
    prepare(source, tmp_path / "undisturbed")
    decode_part = decoding.decode_part
    calls = []

    def interrupted(samples, size):
        calls.append(samples)
        # Of four images, a shard is two parts.
        if len(calls) == 5:
            raise KeyboardInterrupt
        return decode_part(samples, size)

    monkeypatch.setattr(run, "decode_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == [
        "progress.json",
        "train-00000.bin",
        "train-00001.bin",
    ]
    with pytest.raises(DataError, match=r"out is not whole, its preparation was cut short: run"):
        read_index(tmp_path / "out")
    monkeypatch.undo()
    monkeypatch.setattr(run, "_SHARD_BYTES", FOUR_IMAGES + 1)
    watcher = Silent()
    prepare(source, tmp_path / "out", watcher)
    rest = ["train-00002.bin", "validation-00000.bin", "validation-00001.bin"]
    assert watcher.told == [(16, 8), *rest]
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


PAUSED = """
import sys, time
from arignote.cli import main
from arignote.data.prepare import run

run._SHARD_BYTES = int(sys.argv[1])
take, calls = run._take, []

def pause(decoded, writer, *, skip_bad):
    take(decoded, writer, skip_bad=skip_bad)
    calls.append(1)
    if len(calls) == 3:
        print("now", flush=True)
        time.sleep(600)

run._take = pause
main(sys.argv[2:])
"""


def test_killed_in_the_middle_of_a_shard(source, tmp_path, wait_until):
    prepare(source, tmp_path / "undisturbed")
    line = ["prepare", str(source), str(tmp_path / "out"), "--size", str(SIZE), "--workers", "2"]
    command = [sys.executable, "-c", PAUSED, str(FOUR_IMAGES), *line]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "now\n":
            assert process.poll() is None
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
    assert len(children) >= 2
    wait_until(lambda: not any(child.is_running() for child in children), 30, "they decode on")
    left = sorted(contents(tmp_path / "out"))
    assert left[:1] == [".train-00002.bin.part"]
    assert "index.json" not in left
    watcher = Silent()
    prepare(source, tmp_path / "out", watcher)
    assert watcher.told[0] == (16, 8)
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_what_is_complete_is_left_alone(source, tmp_path):
    index = prepare(source, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "progress.json").write_text("of a run killed after its last word")
    watcher = Silent()
    assert prepare(source, tmp_path / "out", watcher) == index
    assert watcher.told == []
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize("complete", [True, False])
def test_other_sources_and_options_are_refused(source, tmp_path, complete):
    out = tmp_path / "out"
    if complete:
        prepare(source, out)
    else:
        damage(source / "train/class1/2.png")
        with pytest.raises(DataError, match=r"2\.png is damaged"):
            prepare(source, out)
    before = contents(out)
    message = r"out was begun with another SRC or other options: .*, or begin anew with --force"
    with pytest.raises(DataError, match=message):
        prepare(source, out, size=SIZE + 1)
    (source / "train" / "class1" / "2.png").unlink()
    with pytest.raises(DataError, match=message):
        prepare(source, out)
    assert contents(out) == before
    (out / "mine.txt").touch()
    prepare(source, out, force=True)
    (out / "mine.txt").unlink()
    prepare(source, tmp_path / "new")
    assert contents(out) == contents(tmp_path / "new")


def test_a_whole_shard_that_is_gone(source, tmp_path):
    damage(source / "val/class0/1.png")
    with pytest.raises(DataError, match=r"1\.png is damaged"):
        prepare(source, tmp_path / "out")
    (tmp_path / "out" / "train-00001.bin").unlink()
    with pytest.raises(DataError, match=r"train-00001.bin cannot be read \(No such.*with --force"):
        prepare(source, tmp_path / "out")
    (tmp_path / "out" / "progress.json").write_text("{")
    with pytest.raises(DataError, match=r"progress.json is damaged: begin anew with --force"):
        prepare(source, tmp_path / "out")


# Where it is written


def test_targets_that_cannot_be(source, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file is a file: name a folder"):
        prepare(source, tmp_path / "file")
    with pytest.raises(DataError, match=r"below cannot be written \(Not a directory\): make it wr"):
        prepare(source, tmp_path / "file" / "below")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    for force in (False, True):
        with pytest.raises(DataError, match=r"full holds other files \(notes.txt\): name a new or"):
            prepare(source, tmp_path / "full", force=force)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 6, 3))
    with pytest.raises(DataError, match=r"out needs 0.0 GB, and 0.0 GB are free: make room, choos"):
        prepare(source, tmp_path / "out")


def test_two_at_a_time(source, tmp_path):
    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match=r"out is in use: another prepare writes into it"):
        prepare(source, tmp_path / "out")
    os.close(handle)


def test_a_file_system_without_locks(source, tmp_path, monkeypatch):
    def refuse_locks(handle, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(output.fcntl, "flock", refuse_locks)
    assert prepare(source, tmp_path / "out").train.images == 11


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "make room, and run it again"), (errno.EACCES, "make it writable, or name an")],
)
def test_a_disk_that_fails(source, tmp_path, monkeypatch, number, advice):
    prepare(source, tmp_path / "undisturbed")
    fsync, calls = os.fsync, []

    def fail(handle):
        calls.append(handle)
        # Two for the first list, four for a shard and the list that names it.
        if len(calls) == 2 + 4 + 1:
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(output.os, "fsync", fail)
    message = rf"out cannot be written \({os.strerror(number)}\): {advice}.*: whole shards are kept"
    with pytest.raises(DataError, match=message):
        prepare(source, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["progress.json", "train-00000.bin"]
    monkeypatch.setattr(output.os, "fsync", fsync)
    prepare(source, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


def test_what_cannot_be_removed(source, tmp_path, monkeypatch):
    prepare(source, tmp_path / "out")
    refuse(monkeypatch, "unlink")
    with pytest.raises(DataError, match=r"out cannot be written \(Permission denied\): make it wr"):
        prepare(source, tmp_path / "out", force=True)


def test_a_killed_process(tmp_path):
    with pytest.raises(ArignoteError, match=r"a process that decodes was killed, .* --workers; wh"):
        list(decoding.in_order(os._exit, [1], 2))


# The command line


def arignote(*line):
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, line)))
    return ended.value.code


def test_the_commands(source, tmp_path, capsys):
    out = tmp_path / "out"
    damage(source / "train/class1/2.png")
    line = ["prepare", source, out, "--size", SIZE, "--workers", 1]
    assert arignote(*line) == 2
    assert "error: " in capsys.readouterr().err
    assert arignote(*line, "--skip-bad") == 0
    said = capsys.readouterr().out
    assert "train-00002.bin · 11 of 16 images · " in said
    assert "skipped train/class1/2.png\n" in said
    assert "10 training and 5 validation images of 8x8, 3 classes, 1 files skipped\n" in said
    assert arignote("data", "info", out) == 0
    said = capsys.readouterr().out
    assert "training    10 images\nvalidation  5 images\nclasses     3: class0, class1, " in said
    assert "size        8x8\nbytes       2,880 in 5 shards\nmean " in said
    assert "skipped     1 files\n            train/class1/2.png\n" in said
    assert arignote("data", "verify", out) == 0
    assert capsys.readouterr().out == f"{out}: all 7 files are as they were written\n"


def test_in_a_terminal(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert arignote("prepare", source, tmp_path / "out", "--size", SIZE, "--workers", 1) == 0
    assert "train-00000.bin · 4 of 16 images · " in capsys.readouterr().out


def test_verify_names_what_is_damaged(source, tmp_path, capsys):
    out = tmp_path / "out"
    prepare(source, out)
    content = bytearray((out / "train-00001.bin").read_bytes())
    content[100] ^= 1
    (out / "train-00001.bin").write_bytes(content)
    damage(out / "validation-00000.bin")
    (out / "validation-00001.bin").unlink()
    (out / "validation-labels.npy").unlink()
    assert arignote("data", "verify", out) == 2
    said, error = capsys.readouterr()
    assert said.splitlines() == [
        f"{out}/train-00001.bin is damaged: its SHA-256 is another",
        f"{out}/validation-00000.bin holds 60 bytes, expected 768: copy it again, or prepare the "
        "data anew with --force",
        f"{out}/validation-00001.bin cannot be read (No such file or directory): copy it again, "
        "or prepare the data anew with --force",
        f"{out}/validation-labels.npy cannot be read (No such file or directory)",
    ]
    assert "4 of 7 files in" in error


def test_mean_of_a_folder_and_of_what_was_prepared(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    files = source.rglob("train/*/*")
    pixels = np.concatenate([decode(str(file), 0).reshape(-1, 3) for file in files])
    assert arignote("data", "mean", source) == 0
    numbers = " ".join(f"{value:.4f}" for value in pixels.mean(axis=0))
    assert f"mean        {numbers}\n" in capsys.readouterr().out
    index = prepare(source, tmp_path / "out")
    assert arignote("data", "mean", tmp_path / "out") == 0
    numbers = " ".join(f"{value:.4f}" for value in index.deviation)
    assert f"deviation   {numbers}\n" in capsys.readouterr().out
    damage(source / "train/class1/2.png")
    assert arignote("data", "mean", source) == 2
    assert "2.png is damaged" in capsys.readouterr().err


def test_the_index_says_how_it_was_made(source, tmp_path):
    prepare(source, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert (index["format"], index["version"], index["seed"]) == ("arignote-shards", 1, 0)
    assert len(index["source"]) == 64
