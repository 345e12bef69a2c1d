"""From a source to a folder of shards; goes on where an earlier run was cut short."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from arignote.data.base import Split
from arignote.data.prepare.decoding import Decoded, decode_part, in_order, parts
from arignote.data.prepare.output import (
    Progress,
    ShardWriter,
    new_shard,
    opened,
    read_progress,
    write_whole,
)
from arignote.data.prepare.samples import Sample, Source
from arignote.data.prepare.source import open_images
from arignote.data.prepare.target import check_room, check_target, clear
from arignote.data.shard_index import (
    CHANNELS,
    INDEX,
    PROGRESS,
    LabelFile,
    ShardFile,
    ShardIndex,
    SplitIndex,
    check_shard,
    read_index,
    read_labels,
)
from arignote.data.statistics import statistics
from arignote.errors import DataError

SEED = 0
"""Of the shuffle of the training samples."""
_SHARD_BYTES = 2**28


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    size: int
    """Pixels a side."""
    workers: int
    """Processes that decode."""
    validation_share: float | None = None
    """Of a source whose names begin with their class; None: it has class folders."""
    skip_bad: bool = False
    force: bool = False


class Watcher(Protocol):
    """Who is told how it goes."""

    def begin(self, images: int, done: int) -> None:
        """So many images there are, and so many are done already."""

    def decoded(self, images: int) -> None:
        """So many more."""

    def shard(self, name: str) -> None:
        """A file is whole."""


class _Shard(NamedTuple):
    """A shard to be written."""

    split: Split
    file: str
    samples: Sequence[Sample]


def prepare(source: Path, out: Path, options: Options, watcher: Watcher) -> ShardIndex:
    """Write shards of the images of `source` to `out`, and return their index.

    A shard holds the whole images among a fixed number of successive samples, so what an
    earlier run wrote does not depend on which images were bad.

    Raises:
        DataError: the source or an image is bad; `out` cannot be written, or holds other things.
        ArignoteError: a decoding process was killed.
    """
    check_target(out, force=options.force)
    found = _shuffled(open_images(source, options.validation_share))
    shard_images = max(1, _SHARD_BYTES // _image_bytes(options))
    digest = found.digest(options.size, SEED, shard_images)
    with opened(out):
        if options.force:
            clear(out)
        if (out / INDEX).is_file():
            return _check_whole(out, digest)
        progress = _go_on(out, digest, _image_bytes(options))
        todo = list(_shards(found, shard_images))
        left = sum(len(shard.samples) for shard in todo[len(progress.shards) :])
        # Before the first list is written, which binds to this --size.
        check_room(out, left * _image_bytes(options))
        if not progress.shards:
            _write_progress(out, progress)
        watcher.begin(
            len(found.train) + len(found.validation),
            sum(len(shard.samples) for shard in todo[: len(progress.shards)]),
        )
        progress = _write_shards(out, todo, progress, options, watcher)
        index = _index(out, found, progress, options)
        write_whole(out / INDEX, json.dumps(index.model_dump(), indent=1).encode())
        (out / PROGRESS).unlink()
        return index


def _shuffled(source: Source) -> Source:
    # Neighbours in a file are then of any class: who reads it from end to end gets mixed batches.
    order = np.random.default_rng(SEED).permutation(len(source.train))
    train = [source.train[place] for place in order.tolist()]
    return Source(source.classes, train, source.validation)


def _image_bytes(options: Options) -> int:
    return options.size * options.size * CHANNELS


def _shards(source: Source, shard_images: int) -> Iterator[_Shard]:
    splits: dict[Split, list[Sample]] = {"train": source.train, "validation": source.validation}
    for split, samples in splits.items():
        for number, start in enumerate(range(0, len(samples), shard_images)):
            yield _Shard(split, f"{split}-{number:05d}.bin", samples[start : start + shard_images])


def _check_whole(out: Path, digest: str) -> ShardIndex:
    """The index of what is prepared already, if all that it names is there."""
    index = read_index(out)
    if index.source != digest:
        raise DataError(_other(out))
    for split in (index.train, index.validation):
        for shard in split.shards:
            check_shard(out, shard, index.image_bytes)
        read_labels(out, split, len(index.classes))
    # Of a run that was killed after its last word.
    (out / PROGRESS).unlink(missing_ok=True)
    return index


def _go_on(out: Path, digest: str, image_bytes: int) -> Progress:
    """What an earlier run has done; of none, nothing."""
    progress = read_progress(out)
    if progress is None:
        return Progress(source=digest, counts=((0,) * 256,) * CHANNELS)
    if progress.source != digest:
        raise DataError(_other(out))
    for shard in progress.shards:
        check_shard(out, shard, image_bytes)
    return progress


def _other(out: Path) -> str:
    return (
        f"{out} was begun with another SRC or other options: name another folder, or begin anew "
        "with --force"
    )


def _write_progress(out: Path, progress: Progress) -> None:
    write_whole(out / PROGRESS, progress.model_dump_json().encode())


def _write_shards(
    out: Path, todo: Sequence[_Shard], progress: Progress, options: Options, watcher: Watcher
) -> Progress:
    """Write those that `progress` does not name; what is done then."""
    left = todo[len(progress.shards) :]
    decode = partial(decode_part, size=options.size)
    each = [list(parts(shard.samples)) for shard in left]
    everything = (part for of_shard in each for part in of_shard)
    with closing(in_order(decode, everything, options.workers)) as results:
        for shard, of_shard in zip(left, each, strict=True):
            counts = np.array(progress.counts, np.int64)
            skipped = list(progress.skipped)
            with new_shard(out / shard.file) as writer:
                for decoded in islice(results, len(of_shard)):
                    _take(decoded, writer, skip_bad=options.skip_bad)
                    skipped += [name for name, _ in decoded.bad]
                    if shard.split == "train":
                        counts += decoded.counts
                    watcher.decoded(len(decoded.images) + len(decoded.bad))
            whole = ShardFile(file=shard.file, images=writer.images, sha256=writer.sha256)
            progress = Progress(
                source=progress.source,
                shards=(*progress.shards, whole),
                counts=tuple(map(tuple, counts.tolist())),
                skipped=tuple(skipped),
            )
            _write_progress(out, progress)
            watcher.shard(shard.file)
    return progress


def _take(decoded: Decoded, writer: ShardWriter, *, skip_bad: bool) -> None:
    for _, reason in decoded.bad:
        if not skip_bad:
            raise DataError(f"{reason}: replace it, or leave out such files with --skip-bad")
    writer.add(decoded.images)


def _index(out: Path, source: Source, progress: Progress, options: Options) -> ShardIndex:
    """Write the labels; the index of all."""
    skipped = set(progress.skipped)
    splits: dict[str, SplitIndex] = {}
    for split, samples in (("train", source.train), ("validation", source.validation)):
        shards = tuple(s for s in progress.shards if s.file.startswith(split))
        labels = [sample.label for sample in samples if sample.name not in skipped]
        if not labels:
            raise DataError(f"all {split} images are bad: replace them, and begin with --force")
        content = io.BytesIO()
        np.save(content, np.array(labels, np.int32))
        file = LabelFile(
            file=f"{split}-labels.npy", sha256=hashlib.sha256(content.getvalue()).hexdigest()
        )
        write_whole(out / file.file, content.getvalue())
        splits[split] = SplitIndex(shards=shards, labels=file)
    mean, deviation = statistics(np.array(progress.counts, np.int64))
    return ShardIndex(
        size=options.size,
        seed=SEED,
        source=progress.source,
        classes=source.classes,
        mean=mean,
        deviation=deviation,
        train=splits["train"],
        validation=splits["validation"],
        skipped=progress.skipped,
    )
