"""What a bench tells a person: a table, and lines that say what is what. Neither torch nor MPI."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.table import Table

from arignote import __version__
from arignote.bench.rows import Report, Row

_MEANINGS = {
    "auto": "our default: times the lossless ones when a run starts, and takes the fastest",
    "mpi": "MPI_Allreduce through mpi4py, nothing of ours around it, and a multiplication by 1/p",
    "gloo": "torch.distributed.all_reduce over gloo, and the same multiplication",
    "copy": "the floor: every worker copies the vector with torch, all at once (who sums in place "
    "writes only what it has just read, and can be a little faster)",
    "line": "the floor: raw TCP moves the least bytes that any allreduce must send between hosts",
    "arignote": "our step: forward, backward, exchange and update, as in `arignote train`",
    "ddp": "DistributedDataParallel over gloo, gradients as views of its buckets",
    "forward_backward": "all workers at once, neither exchange nor update",
    "one_worker": "a plain loop of one worker, alone: forward, backward and update",
}
_REFERENCES = ("mpi", "gloo", "copy", "line", "ddp", "forward_backward", "one_worker")
_WIDTH = 120


def show(report: Report) -> None:
    """Print the report on stdout."""
    console = open_console()
    found = [row for row in report.rows if isinstance(row, Row)]
    steps = found[0].samples_per_second is not None
    names = {row.name for row in found}
    references = [name for name in _REFERENCES if name in names]
    table = Table(box=None, pad_edge=False)
    table.add_column("parameters" if steps else "elements", justify="right")
    table.add_column("step" if steps else "exchange")
    for heading in ("median", "middle half", "samples/s" if steps else "", "sent", *references):
        if heading:
            table.add_column(f"/ {heading}" if heading in references else heading, justify="right")
    for elements, group in groupby(found, lambda row: row.elements):
        rows = list(group)
        for row in rows:
            first = f"{elements:,}" if row is rows[0] else ""
            table.add_row(first, *_cells(row), *_ratios(row, rows, references))
        table.add_section()
    console.print(table)
    console.print()
    for line in _legend(report, found, references):
        console.print(line, soft_wrap=True)


def open_console() -> Console:
    """Stdout; as wide as a table needs where it is no terminal."""
    console = Console(highlight=False, markup=False)
    if console.is_terminal:
        return console
    return Console(highlight=False, markup=False, width=_WIDTH)


def machine_line(report: Report, workers: int) -> str:
    """Where it was measured."""
    machine = report.machine
    return (
        f"{workers} workers on {machine['hosts']} host(s), {machine['threads_per_worker']} "
        f"thread(s) each, {machine['cores']} cores: {machine['cpu']}; load before: "
        f"{machine['load_before']:.2f}; {machine['mpi']}; PyTorch {machine['torch']}; arignote "
        f"{report.commit}"
    )


def _cells(row: Row) -> Iterable[str]:
    yield row.name if row.chosen is None else f"{row.name} ({row.chosen})"
    yield duration(row.median_seconds)
    yield f"{duration(row.spread[0])} .. {duration(row.spread[1])}"
    if row.samples_per_second is not None:
        yield f"{row.samples_per_second:.4g}"
    yield amount(row.wire_bytes)


def _ratios(row: Row, rows: Sequence[Row], references: Sequence[str]) -> Iterable[str]:
    ratios = row.ratios
    if ratios is None:
        ratios = {other.name: row.median_seconds / other.median_seconds for other in rows}
    for name in references:
        ratio = ratios.get(name)
        yield "" if ratio is None else f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def _legend(report: Report, rows: Sequence[Row], references: Sequence[str]) -> Iterable[str]:
    names = {row.name for row in rows}
    yield machine_line(report, max(row.workers for row in rows))
    yield (
        "median of the rounds, each as long as its slowest worker; middle half: from the lower to "
        "the upper quartile; sent: by the worker that sends most, in a round"
    )
    if references:
        how = ", the median over blocks of steps" if any(row.ratios for row in rows) else ""
        named = ", / ".join(references)
        yield f"/ {named}: this row's time over that one's{how}; below 1 is faster"
    for name, meaning in _MEANINGS.items():
        if name in names:
            yield f"{name}: {meaning}"


def duration(seconds: float) -> str:
    """`25.3 ms`: three digits and a unit."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def amount(count: int) -> str:
    """`244 MB`: three digits and a unit."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B"


def commit() -> str:
    """The commit that this code is of, `-dirty` if it was changed since; else its version."""
    folder = Path(__file__).parent
    tracked = _git(folder, "ls-files", "--error-unmatch", "../__init__.py")
    described = _git(folder, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")
    return described if tracked and described else f"version {__version__}"


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
