"""`arignote prepare` and `arignote data`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from arignote.cli import main
from arignote.data.decode import decode
from arignote.data.prepare.source import open_named

sys.path.insert(0, str(Path(__file__).parent))
from prepare_setup import SIZE, damage, make_tar, prepare


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


def test_verify_in_a_terminal_keeps_stdout_clean(source, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    prepare(source, out)
    damage(out / "validation-00000.bin")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert arignote("data", "verify", out) == 2
    said, error = capsys.readouterr()
    assert said.startswith(f"{out}/validation-00000.bin holds 60 bytes")
    assert said.count("\n") == 1
    assert "1 damaged" in error


def test_mean_of_images_that_are_named_by_their_class(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    (tmp_path / "named").mkdir()
    for number, file in enumerate(sorted(source.rglob("*.png"))):
        file.rename(tmp_path / "named" / f"{file.parent.name}_{number}.png")
    tar = make_tar(tmp_path / "x.tar", tmp_path / "named")
    assert arignote("data", "mean", tar) == 2
    assert "or add --class-from-name" in capsys.readouterr().err
    index = prepare(tar, tmp_path / "out", validation_share=0.3, size=12)
    options = ("--class-from-name", "--val-share", "0.3")
    assert arignote("data", "mean", tar, *options) == 0
    training = open_named(tar, 0.3).train
    assert 0 < len(training) == index.train.images < 16
    names = [tmp_path / "named" / sample.name for sample in training]
    pixels = np.concatenate([decode(str(name), 0).reshape(-1, 3) for name in names])
    numbers = " ".join(f"{value:.4f}" for value in pixels.mean(axis=0))
    assert f"mean        {numbers}\n" in capsys.readouterr().out
    assert arignote("data", "mean", tar, "--val-share", "0.3") == 2
    assert "--val-share splits images without folders: add --cla" in capsys.readouterr().err
    assert arignote("data", "mean", tmp_path / "out", "--class-from-name") == 2
    assert "out is prepared, its index has all: leave out" in capsys.readouterr().err


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
