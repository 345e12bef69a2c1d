"""Mistakes that only a worker can find: one line, exit code 2, told once, nothing left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DIGITS = ("train", "digits-mlp", "--out", "run")


def images(folder: Path) -> Path:
    """A small image folder of two classes."""
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for number in range(6):
                pixels = np.full((8, 8, 3), 20 * number, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")
    return folder


def one_line(ended: Any) -> str:
    (line,) = ended.err.strip().splitlines()
    assert line.startswith("arignote: error: ")
    return str(line)


def test_truncated_image(cli: Any) -> None:
    bad = images(cli.folder / "data") / "train/dog/3.png"
    bad.write_bytes(bad.read_bytes()[:40])
    command = ("train", "digits-mlp", "--batch-size", "2", "--data", "imagefolder:data")
    ended = cli(*command, "-n", "2", "--out", "run", code=2)
    line = one_line(ended)
    assert "data/train/dog/3.png" in line
    assert "skip_bad=true" in line
    ended = cli(*command[:-1], "imagefolder:data,skip_bad=true", "-n", "2", "--out", "other")
    assert "1 bad file was skipped" in ended.err
    assert "3.png" in ended.err


def test_empty_class_and_missing_folder(cli: Any) -> None:
    (images(cli.folder / "data") / "train/elk").mkdir()
    assert "elk" in one_line(cli(*DIGITS, "--data", "imagefolder:data", code=2))
    other = cli("train", "digits-mlp", "--data", "imagefolder:nowhere", "--out", "b", code=2)
    assert "nowhere" in one_line(other)


def test_shapes_that_differ(cli: Any) -> None:
    data = images(cli.folder / "data")
    Image.fromarray(np.zeros((9, 8, 3), dtype=np.uint8)).save(data / "train/cat/5.png")
    line = one_line(cli(*DIGITS, "--data", "imagefolder:data", code=2))
    assert "train/cat/5.png" in line
    assert "size=" in line


def test_labels_out_of_range(cli: Any) -> None:
    data = cli.folder / "data"
    data.mkdir()
    for split, count in (("train", 20), ("test", 10)):
        np.save(data / f"x_{split}.npy", np.zeros((count, 32, 32, 3), dtype=np.uint8))
        np.save(data / f"y_{split}.npy", np.full(count, 11, dtype=np.uint8))
    line = one_line(cli("train", "cifar10-cnn", "--data", "cifar10:data", "--out", "r", code=2))
    assert "11" in line
    assert "y_train.npy" in line


def test_more_workers_than_samples(cli: Any) -> None:
    few = "synthetic:1x8x8,2,train=2,validation=2"
    line = one_line(cli(*DIGITS, "-n", "3", "--data", few, code=2))
    assert "3 workers but only 2 training samples: use at most -n 2" in line


def test_nan_keeps_the_last_checkpoint_and_can_go_on(cli: Any) -> None:
    setting = ("--data", "synthetic:1x8x8,10,train=96,validation=8", "--epochs", "3")
    explode = ("--lr", "1e30", "--set", "checkpoint.every_steps=1")
    line = one_line(cli(*DIGITS, "-n", "2", *setting, *explode, code=2))
    assert "the loss of worker 0, worker 1 is not a number at step" in line
    assert list((cli.folder / "run/checkpoints").glob("step-*/manifest.json"))
    cli(
        *("train", "digits-mlp", "-n", "2", *setting, *explode, "--out", "on"),
        *("--set", "train.on_nan=continue"),
    )


def test_damaged_and_foreign_checkpoints(cli: Any) -> None:
    setting = ("--data", "synthetic:1x8x8,10,train=96,validation=8", "--epochs", "2")
    cli(*DIGITS, *setting)
    for path in (cli.folder / "run/checkpoints").glob("step-*/weights.safetensors"):
        path.write_bytes(b"nonsense")
    line = one_line(cli("train", "--resume", "run", "--epochs", "3", code=2))
    assert "has no checkpoint to resume from" in line
    assert "weights.safetensors has another SHA-256" in line


def test_error_in_the_users_model_is_told_once_with_its_traceback(cli: Any) -> None:
    (cli.folder / "mine.py").write_text(
        "from torch import nn\n"
        "from arignote import Model\n"
        "class Mine(Model):\n"
        "    defaults = {'run.data': 'synthetic:1x8x8,10'}\n"
        "    def build(self):\n"
        "        return nn.Sequential(nn.Flatten(), nn.Linear(63, 10))\n"
    )
    ended = cli("train", "mine.py:Mine", "-n", "2", "--out", "run", code=1)
    assert ended.err.count("Traceback (most recent call last)") == 1
    assert "RuntimeError: mat1 and mat2 shapes cannot be multiplied" in ended.err
    assert ended.err.startswith("arignote: worker ")


def test_wrong_mpi_for_mpi4py(cli: Any) -> None:
    # An mpirun that starts the workers without telling them that they are two.
    fake = cli.folder / "mpirun"
    fake.write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo "mpirun (Open MPI) 5.0.0"; exit 0; fi\n'
        'while [ "$1" != -m ]; do python=$1; shift; done\nexec "$python" "$@"\n'
    )
    fake.chmod(0o755)
    ended = cli(*DIGITS, "-n", "2", "--set", f"launch.mpirun={fake}", code=2)
    assert "2 workers were started but MPI formed a world of 1" in one_line(ended)


def test_workers_that_never_meet(cli: Any) -> None:
    fake = cli.folder / "mpirun"
    fake.write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo "mpirun (Open MPI) 5.0.0"; exit 0; fi\n'
        "exec sleep 60\n"
    )
    fake.chmod(0o755)
    settings = ("--set", f"launch.mpirun={fake}", "--set", "launch.start_timeout_seconds=1.5")
    ended = cli(*DIGITS, "-n", "2", *settings, code=1, timeout=20)
    assert "not all 2 workers came to the first meeting within 1.5 s" in one_line(ended)


def test_worker_that_leaves_without_a_word(cli: Any) -> None:
    (cli.folder / "leaver.py").write_text(
        "import os\n"
        "from torch import nn\n"
        "from arignote import Model\n"
        "class Leaver(Model):\n"
        "    defaults = {'run.data': 'synthetic:1x8x8,10'}\n"
        "    def build(self):\n"
        "        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "    def loss(self, batch):\n"
        "        os._exit(0)\n"
    )
    line = one_line(cli("train", "leaver.py:Leaver", "--out", "run", code=1))
    assert "the workers left before the run was finished, without an error; nothing was s" in line


def test_run_that_a_models_own_file_starts(cli: Any) -> None:
    (cli.folder / "loop.py").write_text(
        "from torch import nn\n"
        "from arignote import BSP, Model\n"
        "class Net(Model):\n"
        "    defaults = {'run.data': 'synthetic:1x8x8,10', 'train.epochs': 1}\n"
        "    def build(self):\n"
        "        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "rule = BSP()\n"
        "rule.init(devices=['cpu0'], modelfile='loop.py', modelclass='Net')\n"
    )
    line = one_line(cli("train", "loop.py:Net", "--out", "run", code=2))
    assert "a worker's own file starts another run: put the lines with init() and wait()" in line
