"""Which canvas each image gets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oaa_tf.data.views.canvases import choose_canvases, padding_share
from oaa_tf.data.views.frame import STRIDE, Frame

image_sizes = st.lists(st.tuples(st.integers(1, 900), st.integers(1, 900)), min_size=1, max_size=60).map(np.array)
long_sides = st.integers(2, 50).map(lambda cells: cells * STRIDE)


@given(sizes=image_sizes, long_side=long_sides, min_images=st.integers(1, 10))
def test_a_canvas_holds_its_whole_image(sizes: np.ndarray, long_side: int, min_images: int) -> None:
    canvases = choose_canvases(sizes, long_side, min_images=min_images)
    assert canvases.dtype == np.int32 and canvases.shape == sizes.shape
    assert np.all(canvases.max(axis=1) == long_side) and np.all(canvases % STRIDE == 0)
    for (height, width), canvas in zip(sizes.tolist(), canvases, strict=True):
        assert np.all(np.array(Frame(height, width, long_side).content) <= canvas)


@given(sizes=image_sizes, long_side=long_sides, min_images=st.integers(1, 10))
def test_no_shape_is_rarer_than_asked(sizes: np.ndarray, long_side: int, min_images: int) -> None:
    _, counts = np.unique(choose_canvases(sizes, long_side, min_images=min_images), axis=0, return_counts=True)
    assert np.all(counts >= min_images) or len(counts) == 1


@given(sizes=image_sizes, long_side=long_sides)
def test_turning_the_images_turns_the_canvases(sizes: np.ndarray, long_side: int) -> None:
    turned = choose_canvases(sizes[:, ::-1], long_side)
    np.testing.assert_array_equal(turned, choose_canvases(sizes, long_side)[:, ::-1])


@pytest.mark.parametrize(
    ("size", "canvas"),
    [
        ((375, 500), (232, 304)),
        ((500, 375), (304, 232)),
        ((333, 500), (208, 304)),
        ((281, 500), (176, 304)),
        ((100, 500), (176, 304)),
        ((400, 500), (304, 304)),
        ((500, 500), (304, 304)),
    ],
)
def test_by_hand(size: tuple[int, int], canvas: tuple[int, int]) -> None:
    assert tuple(choose_canvases(np.array([size]), 304)[0]) == canvas
    assert tuple(choose_canvases(np.array([size]), 304, square=True)[0]) == (304, 304)


def test_rare_shapes_are_merged_into_larger_ones() -> None:
    sizes = np.array([(375, 500)] * 5 + [(333, 500)] * 2 + [(500, 375)] * 4 + [(500, 500)])
    canvases = choose_canvases(sizes, 304, min_images=3)
    # The two of 2:3 join those of 3:4; the single square is joined by the rarest shape left, the upright one.
    assert canvases.tolist() == [[232, 304]] * 7 + [[304, 304]] * 5


def test_padding_share_by_hand() -> None:
    sizes = np.array([(375, 500), (500, 500)])
    canvases = choose_canvases(sizes, 304)
    assert padding_share(sizes, canvases) == pytest.approx(4 * 304 / (232 * 304 + 304 * 304))
    square = choose_canvases(sizes, 304, square=True)
    assert padding_share(sizes, square) == pytest.approx(76 * 304 / (2 * 304 * 304))
