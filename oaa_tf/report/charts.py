"""Line charts as SVG, with a legend, and with the numbers in them for the page's read-out."""

import dataclasses
import math
from collections.abc import Sequence

from oaa_tf.report.markup import element, script_data, text

_WIDTH, _HEIGHT = 380, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 40
_NUM_STYLES = 6
_MAX_POINTS = 200


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: For the legend.
        x: Ascending, except for curves of precision over recall.
        y: As long; None and NaN leave a gap.
        style: Number of its color and dashes; the same thing has the same style in all charts.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    style: int


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """A figure with title, chart and legend.

    Args:
        title: Above the chart.
        lines: At least one with a finite value.
        x_label: Below the axis.
        y_label: Below the title.
        x_range: Ends of the axis; those of the data by default.
        y_range: Likewise, from 0 or below.
    """
    lines = [_thinned(line) for line in lines]
    xs = [x for line in lines for x, y in _points(line)]
    ys = [y for line in lines for x, y in _points(line)]
    x_ticks = _ticks(*(x_range or (min(xs), max(xs))))
    y_ticks = _ticks(*(y_range or (min(0, *ys), max(ys))))
    x_low, x_high = x_range or (min(xs), max(xs))
    y_low, y_high = y_range or (min(y_ticks[0], *ys), max(y_ticks[-1], *ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = (x - x_low) / (x_high - x_low or 1), (y - y_low) / (y_high - y_low or 1)
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    marks = []
    for tick in y_ticks:
        if y_low <= tick <= y_high:
            _, y = place(x_low, tick)
            marks.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
            marks.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{_number(tick)}</text>')
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            x, _ = place(tick, y_low)
            anchor = "end" if x > _WIDTH - 25 else "middle"
            marks.append(f'<text x="{x}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}">{_number(tick)}</text>')
    marks.append(
        f'<text class="label" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{text(x_label)}</text>"
    )
    for line in lines:
        path, is_open = [], False
        for x, y in zip(line.x, line.y, strict=True):
            if not _is_known(y):
                is_open = False
                continue
            across, up = place(x, y)
            path.append(f"{'L' if is_open else 'M'}{across} {up}")
            is_open = True
        marks.append(f'<path class="line s{line.style % _NUM_STYLES}" d="{"".join(path)}"/>')
    marks.append(f'<line class="cursor" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}" visibility="hidden"/>')
    numbers = {
        "x": x_label,
        "range": [x_low, x_high],
        "box": [_LEFT, _WIDTH - _RIGHT, _WIDTH],
        "lines": [
            {"name": line.name, "points": [[float(f"{x:.5g}"), float(f"{y:.5g}")] for x, y in _points(line)]}
            for line in lines
        ],
    }
    svg = element(
        "svg",
        *marks,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        tabindex=0,
        aria_label=f"{title}. {_summary(lines)} Left and right arrow keys read values.",
        data_chart=script_data(numbers),
    )
    legend = "".join(
        element(
            "li",
            f'<svg viewBox="0 0 24 8" aria-hidden="true"><path class="line s{line.style % _NUM_STYLES}" '
            'd="M0 4H24"/></svg>',
            text(line.name),
        )
        for line in lines
    )
    caption = element("figcaption", element("b", text(title)), " ", element("span", text(y_label), class_="unit"))
    readout = element("output", "&nbsp;", class_="readout")
    return element("figure", caption, svg, element("ul", legend, class_="legend"), readout, class_="chart")


def _summary(lines: Sequence[Line]) -> str:
    parts = []
    for line in lines:
        if points := _points(line):
            values = [y for _, y in points]
            parts.append(f"{line.name}: from {values[0]:.3g} to {values[-1]:.3g}, highest {max(values):.3g}.")
    return " ".join(parts)


def _points(line: Line) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(line.x, line.y, strict=True) if _is_known(y)]


def _is_known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _thinned(line: Line) -> Line:
    """At most `_MAX_POINTS` points, each the mean of those that it stands for: more than pixels would not be seen."""
    size = -(-len(line.x) // _MAX_POINTS)
    if size <= 1:
        return line
    x, y = [], []
    for start in range(0, len(line.x), size):
        known = [value for value in line.y[start : start + size] if _is_known(value)]
        chunk = line.x[start : start + size]
        x.append(sum(chunk) / len(chunk))
        y.append(sum(known) / len(known) if known else None)
    return Line(line.name, x, y, line.style)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers that span a range, about five."""
    span = high - low or 1.0
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (factor * step) <= 5)
    first = math.floor(low / step + 1e-9)
    return [round(number * step, 10) for number in range(first, math.ceil(high / step - 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
