"""Run lengths, COCO's string of them, and polygons, against slow definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oaa_tf.data.formats.run_lengths import (
    compressed,
    decompressed,
    region_of_polygons,
    region_of_run_lengths,
    run_lengths,
)


def counted_pixel_by_pixel(mask: np.ndarray) -> list[int]:
    counts, is_inside = [0], False
    for column in range(mask.shape[1]):
        for row in range(mask.shape[0]):
            if bool(mask[row, column]) != is_inside:
                counts.append(0)
                is_inside = not is_inside
            counts[-1] += 1
    return counts


def compressed_bit_by_bit(counts: list[int]) -> str:
    """The definition with text: two's complement in as many groups of five bits as the number and its sign need."""
    text = ""
    for index, count in enumerate(counts):
        value = count - (counts[index - 2] if index > 2 else 0)
        num_groups = next(n for n in range(1, 20) if -(1 << (5 * n - 1)) <= value < 1 << (5 * n - 1))
        bits = format(value % (1 << (5 * num_groups)), f"0{5 * num_groups}b")
        groups = [bits[start : start + 5] for start in range(0, len(bits), 5)][::-1]
        text += "".join(
            chr(int(("0" if rank == num_groups - 1 else "1") + group, 2) + 48) for rank, group in enumerate(groups)
        )
    return text


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_every_region_comes_back(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    counts = run_lengths(mask)
    assert counts == counted_pixel_by_pixel(mask)
    assert compressed(counts) == compressed_bit_by_bit(counts)
    assert decompressed(compressed(counts)) == counts
    np.testing.assert_array_equal(region_of_run_lengths(counts, height, width), mask)


@given(st.lists(st.integers(0, 2**27), max_size=20))
def test_large_counts_come_back(counts):
    assert compressed(counts) == compressed_bit_by_bit(counts)
    assert decompressed(compressed(counts)) == counts


def test_a_string_by_hand():
    # 5 and 12 fit five bits; 40 = 01000 + 1 * 32; the fourth count is 2 - 12 = -10.
    assert compressed([5, 12, 40, 2]) == "5<X1F"
    assert decompressed("5<X1F") == [5, 12, 40, 2]


@pytest.mark.parametrize("counts", [[3, 2], [7], [-1, 7], [3, 3.0], [], ["6"], [True, 5], [10**30]])
def test_run_lengths_of_another_image_are_refused(counts):
    with pytest.raises(ValueError, match="its run lengths are not those of 3x2 pixels"):
        region_of_run_lengths(counts, 2, 3)


@pytest.mark.parametrize(
    ("text", "message"), [("5 <", "damaged"), ("5\x7f", "damaged"), ("5o", "cut"), ("o" * 99, "damaged")]
)
def test_damaged_strings_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        decompressed(text)


@given(st.lists(st.tuples(st.floats(-3, 12), st.floats(-3, 12)), min_size=3, max_size=7))
def test_polygons_have_the_pixels_whose_centers_are_inside(points):
    region = region_of_polygons([[number for point in points for number in point]], 8, 9)
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    for row in range(8):
        for column in range(9):
            x, y = column + 0.5, row + 0.5
            # A ray to the left crosses an odd number of edges.
            crossings = [
                x0 + (y - y0) * (x1 - x0) / (y1 - y0) for (x0, y0), (x1, y1) in edges if min(y0, y1) <= y < max(y0, y1)
            ]
            if min((abs(x - at) for at in crossings), default=1) > 1e-6:
                assert region[row, column] == sum(at < x for at in crossings) % 2, (row, column)


def test_polygons_are_united():
    region = region_of_polygons([[1, 1, 4, 1, 4, 3, 1, 3], [3, 2, 6, 2, 6, 4, 3, 4]], 5, 7)
    expected = np.zeros((5, 7), bool)
    expected[1:3, 1:4] = expected[2:4, 3:6] = True
    np.testing.assert_array_equal(region, expected)


@pytest.mark.parametrize(
    "polygon",
    [[1, 1, 4, 1], [1, 1, 4, 1, 4, 3, 1], [0, 0, 1, float("nan"), 1, 1], "abcdef", [0, 0, 1, 1e9, 1, 1], [True] * 6],
)
def test_what_is_no_polygon_is_refused(polygon):
    with pytest.raises(ValueError, match="a polygon is not a list"):
        region_of_polygons([polygon], 5, 7)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10**6), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_run_lengths_are_those_of_pycocotools(height, width, seed, share):
    mask = np.random.default_rng(seed).random((height, width)) < share
    theirs = coco_tool().encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert compressed(run_lengths(mask)) == theirs and decompressed(theirs) == run_lengths(mask)


@given(st.lists(st.integers(0, 30), min_size=4, max_size=4))
def test_rectangles_are_those_of_pycocotools(corners):
    x0, y0, x1, y1 = corners
    rectangle = [x0, y0, x1, y0, x1, y1, x0, y1]
    np.testing.assert_array_equal(region_of_polygons([rectangle], 20, 25), drawn_by_pycocotools(rectangle, 20, 25))


def test_of_round_shapes_pycocotools_has_some_border_pixels_of_its_own():
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    circle = (200 + 150.2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).ravel().tolist()
    rows, columns = np.mgrid[:400, :400] + 0.5
    region = region_of_polygons([circle], 400, 400)
    np.testing.assert_array_equal(region, np.hypot(rows - 200, columns - 200) < 150.2)
    theirs = drawn_by_pycocotools(circle, 400, 400)
    assert np.count_nonzero(region & theirs) > 0.999 * np.count_nonzero(region | theirs)


def coco_tool():
    return pytest.importorskip("pycocotools.mask", reason="needs pycocotools (requirements-dev.txt)")


def drawn_by_pycocotools(polygon: list[float], height: int, width: int) -> np.ndarray:
    tool = coco_tool()
    return tool.decode(tool.merge(tool.frPyObjects([polygon], height, width))).astype(bool)
