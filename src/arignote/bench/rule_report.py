"""The tables of `bench straggler` and `bench centre`. Neither torch nor MPI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.table import Table

from arignote.bench.report import amount, duration, machine_line, open_console
from arignote.bench.rows import (
    CommRow,
    LoadRow,
    Measured,
    ModelRow,
    PaceRow,
    Report,
    Row,
    StreamRow,
    in_step_bound,
)

_EMULATED = (
    "compute is emulated by sleeping, since workers may share cores; rules, exchanges and vectors "
    "are real"
)

R = TypeVar("R", bound=Measured)


def show_straggler(report: Report) -> None:
    """Print what each rule kept."""
    paces = _of(PaceRow, report)
    table = _table(
        "rule", "steps/s", "kept", "bound", "others, slow", "exchanges",
        "others: calc comm sync wait", "slow: calc comm sync wait",
    )  # fmt: skip
    for row in paces:
        table.add_row(*_pace(row))
    console = open_console()
    console.print(table)
    console.print()
    first = paces[0]
    bound = in_step_bound(first.workers, first.slow)
    for line in (
        machine_line(report, first.workers),
        f"worker {first.workers - 1} is slowed {first.slow:g} times by a sleep; {_EMULATED}; "
        f"a vector of {first.elements:,} float32",
        "steps/s: of all workers, until all were through; kept: of what they make without "
        f"exchanging, measured just before ({sum(first.alone):.4g} steps/s before {first.name})",
        f"bound: workers in step go as slowly as the slowest, and keep at most {_percent(bound)}: "
        "n/s of n - 1 + 1/s; free: they need not keep step",
        "exchanges: rounds, visits or letters of all workers together",
        "others, slow: steps of the other workers (mean), and of the slow one; calc, comm, sync, "
        "wait: parts of the time, in this order; the rest is the end, when those who are through "
        "wait for the others",
    ):
        console.print(line, soft_wrap=True)


def _pace(row: PaceRow) -> Iterable[str]:
    yield row.name
    yield f"{row.steps_per_second:.4g}"
    yield _percent(row.kept)
    yield "free" if row.bound is None else _percent(row.bound)
    others = sum(row.steps[:-1]) / (row.workers - 1)
    yield f"{others:.0f}, {row.steps[-1]}"
    yield "every step" if row.exchanges is None else str(sum(row.exchanges))
    phases = (row.calc, row.comm, row.sync, row.wait)
    means = [sum(phase[:-1]) / (row.workers - 1) for phase in phases]
    for seconds in (means, [phase[-1] for phase in phases]):
        yield " ".join(f"{100 * s / row.seconds:4.1f}" for s in seconds) + " %"


def show_centre(report: Report) -> None:
    """Print what visits cost."""
    console = open_console()
    timed, streams = _of(Row, report), _of(StreamRow, report)
    tables = [_visits(timed), _streams(streams)]
    models, comms = _of(ModelRow, report), _of(CommRow, report)
    tables += [_loads(_of(LoadRow, report))] if models else []
    for table in (*tables, _comms(comms)):
        console.print(table)
        console.print()
    lines = [
        machine_line(report, max(row.workers for row in timed)),
        f"a vector of {timed[0].elements:,} float32; {_servers(report)}",
        "copy: a worker copies the vector with torch; / copy: by as many workers, all at once; of "
        "one at a time all others sleep",
        "in and out: bytes that visits bring to the centre and take away; of copy: over the bytes "
        "that one worker's plain copy writes in that time (a copy reads as many again)",
    ]
    lines += [_saturation(model) for model in models]
    if models:
        lines.append(
            "reached: load by the visits that were made; server busy: its own word, the part of "
            "its time with something to do; kept: part of the workers' time in steps, not in visits"
        )
    lines.append(
        "comm, sync: of a step, mean over workers, median over rounds; times less: than bsp; "
        f"{_EMULATED}"
    )
    for line in lines:
        console.print(line, soft_wrap=True)


def _saturation(model: ModelRow) -> str:
    measured = (
        "not reached with so few workers"
        if model.measured_at is None
        else f"measured (the most visits over those of one worker) p = {model.measured_at:.3g}"
    )
    return (
        f"load: p 2n / (tau T b), tau = {model.period} steps, T = {duration(model.step_seconds)}, "
        f"b = {amount(round(model.bytes_per_second))} a second, the most of the table above; full: "
        f"by the model at p = {model.full_at:.3g}, {measured}"
    )


def _servers(report: Report) -> str:
    count = report.machine.get("servers", 0)
    if not count:
        return (
            "the centre is in memory that the workers share"
            if (report.machine["hosts"] == 1)
            else "worker 0 holds the centre"
        )
    way = "messages" if report.machine["hosts"] > 1 else "memory that they share with the workers"
    return f"the centre is on {count} server(s), reached through {way}"


def _visits(timed: Sequence[Row]) -> Table:
    table = _table("workers", "visit", "median", "middle half", "sent", "/ copy", left=(1,))
    copies = {row.workers: row.median_seconds for row in timed if row.name == "copy"}
    for row in timed:
        table.add_row(
            str(row.workers),
            row.name,
            duration(row.median_seconds),
            f"{duration(row.spread[0])} .. {duration(row.spread[1])}",
            amount(row.wire_bytes),
            f"{row.median_seconds / copies[row.workers]:.3g}",
        )
    return table


def _streams(streams: Sequence[StreamRow]) -> Table:
    table = _table("without pause", "visits/s", "in and out", "of copy")
    for row in streams:
        table.add_row(
            f"{row.workers}",
            f"{row.visits_per_second:.4g}",
            f"{amount(round(row.bytes_per_second))}/s",
            _percent(row.of_copy),
        )
    return table


def _loads(loads: Sequence[LoadRow]) -> Table:
    table = _table("every tau steps", "T", "load", "reached", "server busy", "kept", "comm a step")
    for row in loads:
        parts = (row.model_load, row.reached_load, row.busy, row.kept)
        table.add_row(
            str(row.workers),
            duration(row.step_seconds),
            *map(_percent, parts),
            duration(row.comm_seconds),
        )
    return table


def _comms(comms: Sequence[CommRow]) -> Table:
    table = _table("rule", "workers", "comm", "sync", "both", "times less")
    *_, peer = comms
    for row in comms:
        seconds = (row.comm_seconds, row.sync_seconds, row.seconds)
        table.add_row(
            row.name, str(row.workers), *map(duration, seconds), f"{peer.seconds / row.seconds:.3g}"
        )
    return table


def _table(*headings: str, left: Sequence[int] = (0,)) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number in left else "right")
    return table


def _of(kind: type[R], report: Report) -> list[R]:
    return [row for row in report.rows if isinstance(row, kind)]


def _percent(part: float) -> str:
    return f"{100 * part:.3g} %"
