"""What the records say of one rule: its cells of the table, and the figures made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from studies.rules_plan import CELLS, Subject

Record = dict[str, Any]
Cells = dict[tuple[int, int], Record]
"""The finished runs of one rule: (workers, seed) -> record."""

MISSING = "missing"


def cells_of(
    finished: Iterable[Record], name: str, chosen: Mapping[int, Mapping[str, Record]]
) -> Cells:
    """Of the candidates that are chosen now; what was run of another is left out."""
    cells = {}
    for record in finished:
        job = record["job"]
        best = chosen[job["workers"]].get(name)
        if job["subject"] == name and best and same_settings(job, best["job"]):
            cells[job["workers"], job["seed"]] = record
    return cells


def same_settings(job: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two jobs are of one candidate."""
    return all(job[key] == other[key] for key in ("rule", "learning_rate", "scaling"))


def accuracy_in(cells: Cells, cell: tuple[int, int]) -> float | None:
    """Of the last epoch; None where the cell is missing."""
    return cells[cell]["accuracy"][-1] if cell in cells else None


def points_from_bsp(table: dict[str, Cells], name: str, workers: int) -> float | None:
    """Points above bsp, over the seeds that both have."""
    ours, bsp = table[name], table["bsp"]
    both = [cell for cell in CELLS if cell[0] == workers and cell in ours and cell in bsp]
    gaps = [ours[cell]["accuracy"][-1] - bsp[cell]["accuracy"][-1] for cell in both]
    return 100 * fmean(gaps) if gaps else None


def verdict(subject: Subject, points: Sequence[float | None], *, whole: bool) -> str:
    """Whether none of `points` is further below bsp than the goal; of `whole` rows, for good."""
    goal = subject.goal
    if goal is None:
        return "–"
    known = [value for value in points if value is not None]
    if not known:
        return MISSING
    word = "no" if any(round(value, 2) < -goal for value in known) else "yes"
    return word if whole else f"{word}, so far"


def comm_share(record: Record) -> float:
    """Part of the steps' seconds that is comm or sync."""
    phases = record["phases"]
    return float((phases["comm"] + phases["sync"]) / sum(phases.values()))


def megabytes(record: Record) -> float:
    """On the wire, a worker a step; of a centre in shared memory what its rounds would carry."""
    carried = record["wire_bytes"] or 2 * 4 * record["parameters"] * record["exchanges"]
    return float(carried / sum(record["worker_steps"]) / 1e6)


def reading(records: Sequence[Record], name: str) -> str:
    """A rule's own measure: mean of the runs' means, largest of their maxima."""
    notes = [record["notes"][name] for record in records if name in record["notes"]]
    if not notes:
        return "–"
    return f"{fmean(n['mean'] for n in notes):.3g} ({max(n['max'] for n in notes):.3g})"


def mean_curve(cells: Cells) -> list[float | None]:
    """Mean over the seeds of two workers, epoch by epoch; None where one is not known."""
    runs = [record["accuracy"] for (workers, _), record in cells.items() if workers == 2]
    return [None if None in values else fmean(values) for values in zip(*runs, strict=True)]
