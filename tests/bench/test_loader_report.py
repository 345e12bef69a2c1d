"""The rows of `bench loader`, and what is said of them."""

from __future__ import annotations

from typing import Any

from arignote.bench.loader_report import show_loader
from arignote.bench.loader_rows import FirstRow, ImagesRow, IndexRow, LoaderRow, MemoryRow
from arignote.bench.rows import Measured, Report

MACHINE = {
    "cpu": "X",
    "cores": 2,
    "load_before": 0.1,
    "torch": "2",
    "pillow": "13",
    "jpeg": "libjpeg-turbo 3",
}


def loaded(name: str, loaders: int, rate: float) -> LoaderRow:
    return LoaderRow(name, loaders, 100, 100 / rate, (90 / rate, 110 / rate))


def first(name: str, seconds: float) -> FirstRow:
    return FirstRow(name, 2, 100, seconds, (seconds, seconds))


ROWS: tuple[Measured, ...] = (
    ImagesRow(512, True, 55_000_000, 100_000_000, 224),
    loaded("shards uint8", 1, 15_000),
    loaded("imagefolder uint8", 1, 300),
    loaded("shards float32", 2, 9000),
    loaded("imagefolder", 2, 500),
    loaded("torch", 2, 450),
    first("shards", 0.5),
    first("imagefolder", 0.6),
    first("imagefolder, own mean", 3),
    first("torch", 4),
    MemoryRow("shards", 2, 100, 9_000_000, 48_000_000, 200_000_000),
    MemoryRow("torch", 2, 100, 160_000_000, 380_000_000, 300_000_000),
    IndexRow(1_331_167, 976, 0.014, (0.013, 0.015), 7_000_000),
)


def test_rows_travel_as_json() -> None:
    report = Report(MACHINE, "abc", ROWS)
    assert Report.parse(report.text()) == report
    row = loaded("torch", 1, 200).to_json()
    assert (row["kind"], row["images_per_second"]) == ("loader", 200)


def test_tables(capsys: Any) -> None:
    show_loader(Report(MACHINE, "abc", ROWS))
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "batches of loaders images/s middle half a batch / torch",
        "shards uint8 1 15,000 13,636 .. 16,667 6.67 ms",
        "shards float32 2 9,000 8,182 .. 10,000 11.1 ms 20 x",
        "torch 2 450 409 .. 500 222 ms 1 x",
        "imagefolder, own mean 2 3 s 3 s .. 3 s",
        "torch 2 160 MB 190 MB 300 MB",
        "prepared shards on one core: 15,000 images/s; goal: 12,000 or more: reached",
        "prepared over decoding the same images: 50 x; goal: 40 x or more: reached",
        "JPEGs, 2 of ours over 2 of DataLoader's: 1.11 x; goal: 1.2 x or more: missed",
        "first batch of JPEGs: 600 ms, DataLoader's 4 s; goal: not later: reached",
        "memory of a loader of shards, with its part of the server: 24 MB; goal: 60 MB or less: "
        "reached",
        "1,331,167 images in 976 shards: opened in 14 ms, 7 MB of memory; goal: below 50 ms and "
        "100 MB: reached",
    ):
        assert line in lines
    assert "arignote abc" in out
    assert "512 images made for this, samples of 224x224: 55 MB of files, 100 MB of shards" in out
    assert "torch: DataLoader with as many workers on the same JPEGs" in out
    assert "started by forkserver" in out


def test_without_a_peer(capsys: Any) -> None:
    rows = tuple(row for row in ROWS if getattr(row, "name", "") != "torch")
    show_loader(Report(MACHINE, "abc", rows))
    out = capsys.readouterr().out
    assert "prepared over decoding" in out
    assert "DataLoader" not in out
