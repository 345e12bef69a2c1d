"""`arignote data info|verify|mean DIR`: what a folder of images holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from arignote.cli.options import named_share, naming_options


@click.group()
def data() -> None:
    """Look at prepared data."""


@data.command()
@click.argument("folder", metavar="DIR")
def info(folder: str) -> None:
    """What DIR, written by `arignote prepare`, holds."""
    from arignote.data.shard_index import read_index

    index = read_index(Path(folder))
    images = index.train.images + index.validation.images
    shards = len(index.train.shards) + len(index.validation.shards)
    click.echo(f"training    {index.train.images:,} images")
    click.echo(f"validation  {index.validation.images:,} images")
    click.echo(f"classes     {len(index.classes):,}: {_some(index.classes)}")
    click.echo(f"size        {index.size}x{index.size}")
    click.echo(f"bytes       {images * index.image_bytes:,} in {shards:,} shards")
    _echo_statistics(index.mean, index.deviation)
    click.echo(f"skipped     {len(index.skipped):,} files")
    for name in index.skipped:
        click.echo(f"            {name}")


@data.command()
@click.argument("folder", metavar="DIR")
def verify(folder: str) -> None:
    """Read all of DIR, written by `arignote prepare`, and compare its checksums."""
    from rich.console import Console

    from arignote.data.shard_index import damages, read_index
    from arignote.errors import DataError
    from arignote.recorder.progress import live_progress

    index = read_index(Path(folder))
    found: list[str] = []
    # What is found is said when the live line is gone: while it is there, it takes stdout.
    try:
        with live_progress(Console(stderr=True)) as live:
            task = live.add_task("reading", total=len(index.files), now="")
            for damage in damages(Path(folder), index):
                found += filter(None, [damage])
                live.update(task, advance=1, now=f"{len(found):,} damaged" if found else "")
    finally:
        for damage in found:
            click.echo(damage)
    if found:
        raise DataError(
            f"{len(found):,} of {len(index.files):,} files in {folder} are damaged: copy them "
            "again, or prepare the data anew with --force"
        )
    click.echo(f"{folder}: all {len(index.files):,} files are as they were written")


@data.command()
@click.argument("folder", metavar="DIR")
@naming_options
def mean(folder: str, class_from_name: bool, val_share: float | None) -> None:
    """Mean and deviation of each channel over all training pixels, in values 0..255.

    DIR is a folder that `arignote prepare` wrote, or anything that it reads: of that, images are
    taken at their own sizes.
    """
    from arignote.data.prepare.mean import source_statistics
    from arignote.data.shard_index import INDEX, read_index
    from arignote.errors import UserError

    path = Path(folder)
    share = named_share(class_from_name=class_from_name, val_share=val_share)
    if (path / INDEX).is_file():
        if share is not None:
            raise UserError(f"{path} is prepared, its index has all: leave out --class-from-name")
        index = read_index(path)
        _echo_statistics(index.mean, index.deviation)
    else:
        _echo_statistics(*source_statistics(path, len(os.sched_getaffinity(0)), share))


def _echo_statistics(mean: Sequence[float], deviation: Sequence[float]) -> None:
    click.echo(f"mean        {' '.join(f'{value:.4f}' for value in mean)}")
    click.echo(f"deviation   {' '.join(f'{value:.4f}' for value in deviation)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
