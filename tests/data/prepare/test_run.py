"""What `prepare` stores, and that it goes on whatever cut it short."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from arignote.data.decode import decode
from arignote.data.prepare import decoding, run
from arignote.data.shard_index import read_index
from arignote.errors import ArignoteError, DataError

sys.path.insert(0, str(Path(__file__).parent))
from prepare_setup import FOUR_IMAGES, SIZE, Silent, contents, damage, images_of, make_tar, prepare


def test_every_image_is_stored_once_as_it_reads_samples(source, tmp_path):
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


def test_several_processes_give_the_same_bytes(source, tmp_path):
    prepare(source, tmp_path / "one")
    prepare(source, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


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


def test_a_killed_process(tmp_path):
    with pytest.raises(ArignoteError, match=r"a process that decodes was killed, .* --workers; wh"):
        list(decoding.in_order(os._exit, [1], 2))


def test_the_index_says_how_it_was_made(source, tmp_path):
    prepare(source, tmp_path / "out")
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert (index["format"], index["version"], index["seed"]) == ("arignote-shards", 1, 0)
    assert len(index["source"]) == 64
