"""Pictures of runs: loss, accuracy, and where the seconds went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from arignote.errors import UserError
from arignote.recorder.events import EVENTS_FILE, read_events
from arignote.recorder.phases import PHASES

_SUFFIXES = (".png", ".svg", ".pdf")
_EXCHANGE_STYLES: dict[str, dict[str, Any]] = {
    "auto": {"color": "black", "ls": ":", "marker": "x"},
    "mpi": {"color": "0.35", "ls": "--", "marker": "s"},
    "gloo": {"color": "0.6", "ls": "--", "marker": "^"},
    "copy": {"color": "0.75", "ls": "-.", "marker": "."},
    "line": {"color": "0.75", "ls": "-.", "marker": "."},
}
"""Peers and floors are grey, ours are coloured."""


def plot_runs(run_folders: list[Path], target: Path) -> None:
    """Draw all runs into one picture at `target` (.png, .svg or .pdf).

    Raises:
        UserError: a folder holds no events, or the target is of another kind or not writable.
    """
    _check_suffix(target)
    runs = dict(zip(_labels(run_folders), map(_events, run_folders), strict=True))
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy, phases = figure.subplots(1, 3)
    for index, (name, events) in enumerate(runs.items()):
        colour = f"C{index % 10}"
        _curve(loss, events, "epoch", "loss", label=f"{name}, training", color=colour)
        _curve(
            loss, events, "validation", "loss", label=f"{name}, validation", color=colour, ls="--"
        )
        _curve(accuracy, events, "validation", "accuracy", label=name, color=colour)
    loss.set(xlabel="epoch", ylabel="loss", title="Loss", yscale=_scale(runs))
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="Validation accuracy (top-1)")
    _phases(phases, runs)
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="small")
    _save(figure, target)


Curve = list[tuple[int, float, float, float]]
"""Of one exchange: (elements, median, lower and upper quartile in seconds) by size."""


def plot_exchanges(curves: dict[str, Curve], target: Path) -> None:
    """Draw the time of each exchange against the size of the vector, both logarithmic.

    Raises:
        UserError: as `plot_runs`.
    """
    check_target(target)
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Axes = figure.subplots()
    for index, (name, points) in enumerate(curves.items()):
        sizes, medians, low, high = zip(*points, strict=True)
        style = _EXCHANGE_STYLES.get(name, {"color": f"C{index % 10}", "marker": "o"})
        axes.plot(sizes, medians, label=name, markersize=4, **style)
        axes.fill_between(sizes, low, high, color=style["color"], alpha=0.15, linewidth=0)
    axes.set(xscale="log", yscale="log", xlabel="elements (float32)", ylabel="seconds a round")
    axes.set_title("Averaging one vector over all workers: median and middle half")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    _save(figure, target)


def check_target(target: Path) -> None:
    """Before the work is done: can a picture be written there?

    Raises:
        UserError: it is of another kind, or in a folder that is not there.
    """
    _check_suffix(target)
    if not target.parent.is_dir():
        raise UserError(f"plot {target} cannot be written: no folder {str(target.parent)!r}")


def _check_suffix(target: Path) -> None:
    if target.suffix not in _SUFFIXES:
        raise UserError(f"got {target.name!r}, expected a file that ends in {', '.join(_SUFFIXES)}")


def _save(figure: Figure, target: Path) -> None:
    try:
        figure.savefig(target, dpi=120)
    except OSError as error:
        raise UserError(f"plot {target} cannot be written: {error.strerror}") from None


def _scale(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Logarithmic, unless a loss is zero or below: it could not be drawn."""
    losses = [
        event["loss"]
        for events in runs.values()
        for event in events
        if event["event"] in ("epoch", "validation")
    ]
    return "log" if all(loss is None or loss > 0 for loss in losses) else "linear"


def _labels(folders: list[Path]) -> list[str]:
    """The folders' names; their paths where two have the same name."""
    names = [folder.name for folder in folders]
    return [n if n and names.count(n) == 1 else str(f) for f, n in zip(folders, names, strict=True)]


def _events(folder: Path) -> list[dict[str, Any]]:
    events = read_events(folder)
    if not any(event["event"] in ("epoch", "validation") for event in events):
        if not (folder / EVENTS_FILE).is_file():
            raise UserError(
                f"{folder} is no run: it has no {EVENTS_FILE}; give the folder of a run"
            )
        raise UserError(f"{folder} has nothing to plot yet: no epoch in its {EVENTS_FILE}")
    return events


def _curve(axes: Axes, events: list[dict[str, Any]], kind: str, value: str, **style: Any) -> None:
    """One value of one kind of event over the epochs; what a resumed run did again, counts last."""
    points: dict[float, float] = {}
    epoch, step = 0.0, 0
    for event in events:
        if event["event"] in ("epoch", "step"):
            epoch, step = float(event["epoch"]), event.get("step", 0)
        if event["event"] == kind and event[value] is not None:
            # A run that ended within an epoch was validated there: between two events.
            points[epoch * event["step"] / step if step else epoch] = event[value]
    if points:
        axes.plot(list(points), list(points.values()), marker=".", **style)


def _phases(axes: Axes, runs: dict[str, list[dict[str, Any]]]) -> None:
    """Seconds of all epochs by phase, stacked, one bar a run."""
    names = list(runs)
    left = [0.0] * len(names)
    for phase in PHASES:
        seconds = [
            sum(event["seconds"][phase] for event in runs[name] if event["event"] == "epoch")
            for name in names
        ]
        axes.barh(names, seconds, left=left, label=phase, height=0.5)
        left = [before + more for before, more in zip(left, seconds, strict=True)]
    axes.set(xlabel="seconds (mean over the workers)", title="Where the seconds of the steps went")
    axes.margins(y=0.6 / len(names))
    axes.legend(fontsize="small", ncols=2, loc="upper center")
