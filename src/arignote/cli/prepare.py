"""`arignote prepare SRC OUT`: decode images once, into shards that are mapped in training."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

import click

from arignote.cli.options import named_share, naming_options

_SHOWN = 20
"""Skipped files that are listed; the index has all."""


@click.command(context_settings={"show_default": True})
@click.argument("src")
@click.argument("out")
@click.option(
    "--size", type=click.IntRange(1, 8192), default=256, help="Pixels a side of what is stored."
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes that decode.  [default: cores]"
)
@naming_options
@click.option("--skip-bad", is_flag=True, help="Leave out files that hold no whole image.")
@click.option("--force", is_flag=True, help="Begin anew where OUT holds something prepared.")
def prepare(
    src: str,
    out: str,
    size: int,
    workers: int | None,
    class_from_name: bool,
    val_share: float | None,
    skip_bad: bool,
    force: bool,
) -> None:
    """Decode the images of SRC once, for --data shards:OUT.

    SRC is a folder with train/CLASS/*.jpg and val/CLASS/*.jpg, a tar of one, or a folder with
    ImageNet's archives. Cut short, the same command goes on after the last whole shard.
    """
    from arignote.data.prepare.run import Options
    from arignote.data.prepare.run import prepare as run

    options = Options(
        size=size,
        workers=workers or len(os.sched_getaffinity(0)),
        validation_share=named_share(class_from_name=class_from_name, val_share=val_share),
        skip_bad=skip_bad,
        force=force,
    )
    with _Progress() as progress:
        index = run(Path(src), Path(out), options, progress)
    for name in index.skipped[:_SHOWN]:
        click.echo(f"skipped {name}")
    if len(index.skipped) > _SHOWN:
        click.echo(f"skipped {len(index.skipped) - _SHOWN:,} more: see index.json")
    click.echo(
        f"{out}: {index.train.images:,} training and {index.validation.images:,} validation "
        f"images of {size}x{size}, {len(index.classes):,} classes"
        + (f", {len(index.skipped):,} files skipped" if index.skipped else "")
    )
    click.echo(f"train on them with --data shards:{out}")


class _Progress:
    """A live line in a terminal; elsewhere a plain line for each shard."""

    def __init__(self) -> None:
        from rich.console import Console

        from arignote.recorder.progress import live_progress

        self._console = Console(highlight=False, soft_wrap=True)
        self._live = live_progress(self._console)
        self._task = self._live.add_task("listing", total=None, now="")
        self._images = self._done = self._first = 0
        self._began = 0.0

    def __enter__(self) -> _Progress:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def begin(self, images: int, done: int) -> None:
        """See `Watcher`."""
        self._images, self._done, self._first = images, done, done
        self._began = time.monotonic()
        if done:
            self._say(f"goes on after {done:,} of {images:,} images")
        self._live.update(self._task, description="decoding", total=images, completed=done)

    def decoded(self, images: int) -> None:
        """See `Watcher`."""
        self._done += images
        self._live.update(self._task, completed=self._done, now=self._rate())

    def shard(self, name: str) -> None:
        """See `Watcher`."""
        self._say(f"{name} · {self._done:,} of {self._images:,} images · {self._rate()}")

    def _rate(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        return f"{(self._done - self._first) / seconds:,.0f} images/s"

    def _say(self, text: str) -> None:
        self._console.out(text, highlight=False)
