"""The tables of `bench loader`, and what each says of its goal. Neither torch nor MPI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.table import Table

from arignote.bench.loader_rows import FirstRow, ImagesRow, IndexRow, LoaderRow, MemoryRow
from arignote.bench.report import amount, duration, open_console
from arignote.bench.rows import Measured, Report

CORE_IMAGES_PER_SECOND = 12_000
TIMES_DECODING = 40
TIMES_TORCH = 1.2
LOADER_BYTES = 60 * 10**6
INDEX_SECONDS, INDEX_BYTES = 0.05, 100 * 10**6
"""What is aimed at."""

_MEANINGS = {
    "shards uint8": "one process pinned to one core does what a loader does up to bytes in shared "
    "memory: windows of prepared images, mirrored; nobody takes them",
    "imagefolder uint8": "the same process with the same images as JPEGs: read, decoded, scaled, "
    "mirrored",
    "shards float32": "loaders as in training, up to normalised float32 in the hands of a "
    "consumer, who reads from each page",
    "imagefolder": "the same from JPEGs: shorter side to the size, middle, mirror; nothing that "
    "was decoded is kept",
    "torch": "DataLoader with as many workers on the same JPEGs: Pillow, and torchvision's "
    "transforms of the same meaning (Resize bilinear, CenterCrop, RandomHorizontalFlip, ToTensor, "
    "Normalize), started by forkserver, persistent, two batches ahead each",
    "imagefolder, own mean": "as a run that begins: mean and deviation of up to 1,000 images are "
    "computed first, which the rows above are told, as torch's user writes them down",
}

R = TypeVar("R", bound=Measured)


def show_loader(report: Report) -> None:
    """Print what was measured."""
    loaded, firsts = _of(LoaderRow, report), _of(FirstRow, report)
    memory = _of(MemoryRow, report)
    console = open_console()
    for table in (_rates(loaded), _firsts(firsts), _memory(memory)):
        console.print(table)
        console.print()
    names = {row.name for row in loaded} | {row.name for row in firsts}
    for line in (
        *_goals(loaded, firsts, memory, _of(IndexRow, report)),
        *_setting(report),
        *(f"{name}: {meaning}" for name, meaning in _MEANINGS.items() if name in names),
    ):
        console.print(line, soft_wrap=True)


def _rates(rows: Sequence[LoaderRow]) -> Table:
    table = _table("batches of", "loaders", "images/s", "middle half", "a batch", "/ torch")
    for row in rows:
        low, high = (row.batch_size / seconds for seconds in reversed(row.spread))
        peer = _find(rows, "torch", row.loaders)
        # One core without a consumer is another thing than a worker with one.
        ratio = "" if peer is None or "uint8" in row.name else _times(_faster(row, peer))
        table.add_row(
            row.name,
            str(row.loaders),
            f"{row.images_per_second:,.0f}",
            f"{low:,.0f} .. {high:,.0f}",
            duration(row.median_seconds),
            ratio,
        )
    return table


def _firsts(rows: Sequence[FirstRow]) -> Table:
    table = _table("first batch of", "loaders", "after", "middle half")
    for row in rows:
        low, high = row.spread
        table.add_row(
            row.name,
            str(row.loaders),
            duration(row.median_seconds),
            f"{duration(low)} .. {duration(high)}",
        )
    return table


def _memory(rows: Sequence[MemoryRow]) -> Table:
    table = _table("memory of", "loaders", "each alone", "all, / loaders", "batches ahead")
    for row in rows:
        table.add_row(
            row.name,
            str(row.loaders),
            amount(row.each_bytes),
            amount(row.all_bytes // row.loaders),
            amount(row.ahead_bytes),
        )
    return table


def _goals(
    loaded: Sequence[LoaderRow],
    firsts: Sequence[FirstRow],
    memory: Sequence[MemoryRow],
    indices: Sequence[IndexRow],
) -> Iterable[str]:
    core, decoding = (_find(loaded, name, 1) for name in ("shards uint8", "imagefolder uint8"))
    if core is not None and decoding is not None:
        rate, times = core.images_per_second, _faster(core, decoding)
        yield (
            f"prepared shards on one core: {rate:,.0f} images/s; goal: {CORE_IMAGES_PER_SECOND:,} "
            f"or more: {_met(rate >= CORE_IMAGES_PER_SECOND)}"
        )
        yield (
            f"prepared over decoding the same images: {_times(times)}; goal: {TIMES_DECODING} x or "
            f"more: {_met(times >= TIMES_DECODING)}"
        )
    for row in loaded:
        peer = _find(loaded, "torch", row.loaders)
        if row.name == "imagefolder" and peer is not None:
            times = _faster(row, peer)
            yield (
                f"JPEGs, {row.loaders} of ours over {row.loaders} of DataLoader's: "
                f"{_times(times)}; goal: {TIMES_TORCH:g} x or more: {_met(times >= TIMES_TORCH)}"
            )
    first = {row.name: row for row in firsts}
    if "torch" in first:
        ours, theirs = (first[name].median_seconds for name in ("imagefolder", "torch"))
        yield (
            f"first batch of JPEGs: {duration(ours)}, DataLoader's {duration(theirs)}; goal: not "
            f"later: {_met(ours <= theirs)}"
        )
    for need in memory:
        if need.name != "torch":
            each = max(need.each_bytes, need.all_bytes // need.loaders)
            yield (
                f"memory of a loader of {need.name}, with its part of the server: {amount(each)}; "
                f"goal: {amount(LOADER_BYTES)} or less: {_met(each <= LOADER_BYTES)}"
            )
    for index in indices:
        small = index.resident_bytes < INDEX_BYTES and index.median_seconds < INDEX_SECONDS
        yield (
            f"{index.images:,} images in {index.shards:,} shards: opened in "
            f"{duration(index.median_seconds)}, {amount(index.resident_bytes)} of memory; goal: "
            f"below {duration(INDEX_SECONDS)} and {amount(INDEX_BYTES)}: {_met(small)}"
        )


def _setting(report: Report) -> Iterable[str]:
    machine = report.machine
    yield (
        f"{machine['cores']} cores: {machine['cpu']}; load before: {machine['load_before']:.2f}; "
        f"PyTorch {machine['torch']}; Pillow {machine['pillow']} ({machine['jpeg']}); arignote "
        f"{report.commit}"
    )
    for row in _of(ImagesRow, report):
        yield (
            f"{row.images:,} images{' made for this' if row.made else ''}, samples of "
            f"{row.size}x{row.size}: {amount(row.file_bytes)} of files, {amount(row.shard_bytes)} "
            "of shards, all in the page cache: what is measured is loading, not the disk"
        )
    yield (
        "images/s: median of turns that begin with nothing ordered and end with the last batch "
        "taken; middle half: from the lower to the upper quartile; / torch: times the rate of "
        "torch with as many workers"
    )
    yield (
        "first batch: from nothing started, in a process that has imported torch; memory: each "
        "alone: what the largest loader shares with no other process; all: server and loaders, "
        "shared pages by their part; batches and mapped shards are not counted"
    )


def _faster(row: LoaderRow, other: LoaderRow) -> float:
    return row.images_per_second / other.images_per_second


def _find(rows: Sequence[LoaderRow], name: str, loaders: int) -> LoaderRow | None:
    return next((row for row in rows if (row.name, row.loaders) == (name, loaders)), None)


def _times(ratio: float) -> str:
    return f"{ratio:,.0f} x" if ratio >= 100 else f"{ratio:.3g} x"


def _met(reached: bool) -> str:
    return "reached" if reached else "missed"


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def _of(kind: type[R], report: Report) -> list[R]:
    return [row for row in report.rows if isinstance(row, kind)]
