"""The curves: one line each, named at its end, told apart in grey too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curve = Sequence[float | None]
"""Accuracy after each epoch."""

_COLOURS = ("#44698f", "#a3683f", "#5c8a66", "#8a5a86", "#7a7a45", "#4f8f94", "#b0626a")
_DASHES = ("-", "--", "-.", ":")


def draw(curves: Mapping[str, Curve], target: Path, title: str, first_name: str) -> None:
    """Write the picture to `target`: all epochs, and beside them the second half, larger.

    Args:
        first_name: which curve is the thick black line, that others are compared with.
    """
    figure = Figure(figsize=(12, 6), layout="constrained")
    FigureCanvasAgg(figure)
    whole, end = figure.subplots(1, 2, width_ratios=(2, 3))
    last = max(len(curve) for curve in curves.values())
    first = last // 2 + 1
    _lines(whole, curves, 1, first_name)
    _label(end, _lines(end, curves, first, first_name), last, first)
    whole.set_xticks(range(1, last + 1))
    end.set_xticks(range(first, last + 1))
    whole.set_ylabel("test accuracy")
    for axes in (whole, end):
        axes.set_xlabel("epoch (of all workers together)")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.1f} %")
        axes.grid(alpha=0.25, lw=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(target, dpi=120)


def _lines(
    axes: Axes, curves: Mapping[str, Curve], first: int, first_name: str
) -> dict[str, tuple[float, str]]:
    """Draw from epoch `first` on; the last height and the colour of each line."""
    ends = {}
    for index, (name, curve) in enumerate(curves.items()):
        points = [(x, y) for x, y in enumerate(curve, 1) if y is not None and x >= first]
        if not points:
            continue
        main = name == first_name
        colour = "black" if main else _COLOURS[index % len(_COLOURS)]
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            ls="-" if main else _DASHES[index % len(_DASHES)],
            lw=2.4 if main else 1.3,
            marker="." if len(points) == 1 else None,
        )
        ends[name] = points[-1][1], colour
    return ends


def _label(axes: Axes, ends: Mapping[str, tuple[float, str]], last: int, first: int) -> None:
    """Name each line at its end, none over another."""
    low, high = axes.get_ylim()
    places = spread({name: y for name, (y, _) in ends.items()}, gap=0.04 * (high - low))
    width = max(last - first, 0.5)
    for name, (y, colour) in ends.items():
        axes.annotate(
            f"{name} {100 * y:.1f}",
            xy=(last, y),
            xytext=(last + 0.08 * width, places[name]),
            color=colour,
            fontsize=9,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "lw": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 0,
                "shrinkB": 0,
            },
        )
    axes.set_ylim(min(low, *places.values()), max(high, *places.values()))
    axes.set_xlim(first - 0.05 * width, last + 0.5 * width)


def spread(heights: Mapping[str, float], gap: float) -> dict[str, float]:
    """Heights at least `gap` apart, in the same order, around where they were."""
    names = sorted(heights, key=lambda name: heights[name])
    groups: list[tuple[list[str], float]] = []
    for name in names:
        groups.append(([name], heights[name]))
        # A group that reaches into the one below becomes one with it, around their mean.
        while len(groups) > 1 and _bottom(groups[-1], gap) < _top(groups[-2], gap) + gap:
            (upper, high), (lower, low) = groups.pop(), groups.pop()
            count = len(lower) + len(upper)
            middle = (low * len(lower) + high * len(upper)) / count
            groups.append(([*lower, *upper], middle))
    return {
        name: _bottom(group, gap) + index * gap
        for group in groups
        for index, name in enumerate(group[0])
    }


def _bottom(group: tuple[list[str], float], gap: float) -> float:
    return group[1] - gap * (len(group[0]) - 1) / 2


def _top(group: tuple[list[str], float], gap: float) -> float:
    return group[1] + gap * (len(group[0]) - 1) / 2
