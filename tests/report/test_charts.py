"""Charts: where lines and ticks are placed, and what is left out."""

import math

import pytest

from oaa_tf.report.charts import BOX, Line, line_chart


def chart(points, **ranges):
    return line_chart("a chart", [Line("a line", points, 7)], x_label="step", y_label="loss", **ranges)


def test_lines_fill_the_box_and_have_gaps():
    found = chart([(0, 4), (1, None), (2, 0), (3, math.nan), (4, 2), (8, 1)])
    left, right, top, bottom = (BOX[side] for side in ("left", "right", "top", "bottom"))
    middle = (top + bottom) / 2
    places = (
        f"M{left:.1f} {top:.1f}M{left + (right - left) / 4} {bottom:.1f}M{(left + right) / 2} {middle}L{right:.1f} "
    )
    assert found["lines"] == [{"name": "a line", "style": 1, "path": f"{places}{bottom - (bottom - top) / 4}"}]
    assert [tick for _, tick in found["y_ticks"]] == [0, 1, 2, 3, 4]
    assert found["y_ticks"][0][0] == bottom and found["y_ticks"][-1][0] == top
    assert [tick for _, tick in found["x_ticks"]] == [0, 2, 4, 6, 8]
    assert found["data"]["lines"] == [{"name": "a line", "points": [[0, 4], [2, 0], [4, 2], [8, 1]]}]


def test_axes_can_be_given():
    found = chart([(0.5, 0.5)], x_range=(0, 1), y_range=(0, 1))
    assert found["data"]["range"] == (0, 1)
    assert (
        [tick for _, tick in found["x_ticks"]] == [tick for _, tick in found["y_ticks"]] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    )
    assert found["lines"][0]["path"] == f"M{(BOX['left'] + BOX['right']) / 2} {(BOX['top'] + BOX['bottom']) / 2}"


def test_long_lines_are_thinned_to_means():
    (line,) = chart([(step, step % 2) for step in range(1000)])["data"]["lines"]
    assert len(line["points"]) == 200
    assert line["points"][:2] == [[2, pytest.approx(0.4)], [7, pytest.approx(0.6)]]


@pytest.mark.parametrize("points", [[], [(0, None), (1, math.nan)]])
def test_there_is_no_chart_without_a_value(points):
    assert chart(points) is None
