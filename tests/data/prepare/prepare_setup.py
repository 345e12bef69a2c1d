"""What the tests of `prepare` share: small shards, and a look at what was written."""

from __future__ import annotations

import errno
import tarfile

import numpy as np

from arignote.data.prepare import run
from arignote.data.prepare.run import Options
from arignote.data.shard_index import read_index

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


def refuse(monkeypatch, method):
    def raise_it(*arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(f"pathlib.Path.{method}", raise_it)
