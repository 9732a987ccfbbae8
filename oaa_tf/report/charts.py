"""Line charts: positions and paths for `template/curves.html`, and the values that the page's script shows."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

BOX = {"width": 380, "height": 220, "left": 44, "right": 370, "top": 10, "bottom": 180}
"""Size of a chart, and the edges of the rectangle that the lines are drawn in."""

_NUM_STYLES = 6
_MAX_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: Name in the legend.
        points: x and y. x ascends, except in curves of precision over recall; y is None or NaN for a gap.
        style: Number of its color and dashes, the same for the same thing in all charts.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    style: int


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> dict[str, Any] | None:
    """The data with which the template draws a chart; None if there is no finite value.

    Args:
        title: Title above the chart.
        lines: The lines, in the order of the legend.
        x_label: Label below the x axis.
        y_label: Label of the y axis, below the title.
        x_range: Ends of the x axis; by default those of the data.
        y_range: Ends of the y axis; by default round numbers around 0 and the data.

    Returns:
        "title" and "y_label"; "x_ticks" and "y_ticks", each a place and a number; "lines", each with "name", "style"
        and "path"; "data" for the page's script: "x", the axis' label, its "range", the "box", and the known "points"
        of the "lines".
    """
    thinned = [_thinned(line.points) for line in lines]
    known = [[(x, y) for x, y in points if y is not None] for points in thinned]
    if not any(known):
        return None
    xs, ys = zip(*(point for points in known for point in points), strict=True)
    x_range = x_range or (min(xs), max(xs))
    y_ticks = _ticks(*(y_range or (min(0, *ys), max(ys))))
    x_place = _scale(x_range, BOX["left"], BOX["right"])
    y_place = _scale(y_range or (y_ticks[0], y_ticks[-1]), BOX["bottom"], BOX["top"])
    return {
        "title": title,
        "y_label": y_label,
        "x_ticks": [(x_place(tick), tick) for tick in _ticks(*x_range) if x_range[0] <= tick <= x_range[1]],
        "y_ticks": [(y_place(tick), tick) for tick in y_ticks],
        "lines": [
            {"name": line.name, "style": line.style % _NUM_STYLES, "path": _path(points, x_place, y_place)}
            for line, points in zip(lines, thinned, strict=True)
        ],
        "data": {
            "x": x_label,
            "range": x_range,
            "box": BOX,
            "lines": [
                {"name": line.name, "points": [[float(f"{number:.5g}") for number in point] for point in points]}
                for line, points in zip(lines, known, strict=True)
            ],
        },
    }


def _thinned(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """At most `_MAX_POINTS` points, each the mean of several: the chart has too few pixels for more."""
    size = math.ceil(len(points) / _MAX_POINTS)
    thinned = []
    for start in range(0, len(points), size or 1):
        xs, ys = zip(*points[start : start + size], strict=True)
        known = [y for y in ys if y is not None and math.isfinite(y)]
        thinned.append((fmean(xs), fmean(known) if known else None))
    return thinned


def _scale(ends: tuple[float, float], first: float, last: float) -> Callable[[float], float]:
    """A function from a value on an axis to its position in the chart."""
    low, high = ends
    return lambda value: round(first + (value - low) / (high - low or 1) * (last - first), 1)


def _path(points: Sequence[tuple[float, float | None]], x_place: Callable, y_place: Callable) -> str:
    """The SVG path of a line, with gaps where y is unknown."""
    path, command = "", "M"
    for x, y in points:
        if y is not None:
            path += f"{command}{x_place(x)} {y_place(y)}"
        command = "M" if y is None else "L"
    return path


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that span a range."""
    span = high - low or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (factor * step) <= 5)
    first = math.floor(low / step + 1e-9)
    return [round(number * step, 10) for number in range(first, math.ceil(high / step - 1e-9) + 1)]
