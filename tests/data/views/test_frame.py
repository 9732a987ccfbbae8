"""Geometry of the canonical frame: sizes, valid cells, and resampling to pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.data.views.frame import STRIDE, Frame

frames = st.builds(
    Frame,
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    side=st.integers(1, 50).map(lambda cells: cells * STRIDE),
)


@pytest.mark.parametrize(
    "height, width, canvas, content, valid_cells",
    [
        (300, 400, 304, (228, 304), (29, 38)),  # 28.5 rows of cells: the half-filled one counts
        (400, 300, 304, (304, 228), (38, 29)),
        (375, 500, 224, (168, 224), (21, 28)),
        (333, 500, 320, (213, 320), (27, 40)),  # 213.12 rounds down; 26.6 cells
        (100, 100, 64, (64, 64), (8, 8)),  # enlarged
        (1, 1, 8, (8, 8), (1, 1)),
        (1, 5000, 64, (1, 64), (1, 8)),  # never less than one pixel, nor than one cell
        (5, 16, 8, (3, 8), (1, 1)),  # 2.5 rounds up
    ],
)
def test_sizes_by_hand(height, width, canvas, content, valid_cells):
    frame = Frame(height, width, canvas)
    assert frame.content == content
    assert frame.valid_cells == valid_cells
    assert frame.grid == canvas // STRIDE


@given(frames)
@settings(deadline=None)
def test_sizes(frame):
    assert max(frame.content) == frame.side
    scale = frame.side / max(frame.height, frame.width)
    for original, content, cells in zip((frame.height, frame.width), frame.content, frame.valid_cells, strict=True):
        assert content == max(1, int(original * scale + 0.5)) or abs(content - original * scale) <= 0.5
        assert 1 <= cells <= frame.grid
        # The last valid cell is at least half filled (unless it is the only one), the next one less than half.
        assert content - (cells - 1) * STRIDE >= STRIDE / 2 or cells == 1
        assert content - cells * STRIDE < STRIDE / 2
    assert Frame(frame.width, frame.height, frame.side).content == frame.content[::-1]


def test_numpy_sizes_are_as_good_as_python_integers():
    height, width = np.array([5464, 8192], np.int32)
    assert Frame(height, width, 512).content == Frame(5464, 8192, 512).content == (342, 512)


@given(frames, st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None)
def test_to_image_is_linear_interpolation_between_centres(frame, height, width):
    maps = np.random.default_rng(0).random((frame.grid, frame.grid), np.float32)
    expected = maps[: frame.valid_cells[0], : frame.valid_cells[1]]
    for axis, size in enumerate((height, width)):
        # np.interp clamps at the ends, as `to_image` does.
        wanted = (np.arange(size) + 0.5) * frame.content[axis] / size / STRIDE
        centres = np.arange(expected.shape[axis]) + 0.5
        expected = np.apply_along_axis(lambda line, w=wanted, c=centres: np.interp(w, c, line), axis, expected)
    np.testing.assert_allclose(frame.to_image(maps, height, width), expected, atol=1e-5)


@given(frames, st.integers(0, 99))
@settings(deadline=None)
def test_padding_never_shows(frame, seed):
    maps = np.random.default_rng(seed).random((2, frame.grid, frame.grid), np.float32)
    rows, columns = frame.valid_cells
    other_padding = maps.copy()
    other_padding[:, rows:] = 100
    other_padding[:, :, columns:] = -100
    image = frame.to_image(maps)
    assert image.shape == (2, frame.height, frame.width) and image.dtype == np.float32
    np.testing.assert_array_equal(image, frame.to_image(other_padding))
    valid = maps[:, :rows, :columns]
    assert image.min() >= valid.min() - 1e-5 and image.max() <= valid.max() + 1e-5


def test_a_cell_per_pixel_is_the_identity():
    frame = Frame(height=3, width=4, side=32)
    maps = np.random.default_rng(0).random((4, 4), np.float32)
    np.testing.assert_array_equal(frame.to_image(maps), maps[:3])


def test_interpolation_by_hand():
    # 16 x 8 pixels on a 16 canvas: two cells above one another; centres of pixels are 1/8 cell apart.
    image = Frame(height=16, width=8, side=16).to_image(np.float32([[0, 9], [1, 9]]))
    expected = np.clip((np.arange(16) + 0.5) / 8 - 0.5, 0, 1)
    np.testing.assert_allclose(image, np.tile(expected[:, None], 8), atol=1e-6)


def test_flipped_maps_make_flipped_pixels():
    frame = Frame(height=30, width=40, side=64)  # content 48 x 64: whole cells
    maps = np.random.default_rng(0).random((6, 8), np.float32)
    padded = np.zeros((2, 8, 8), np.float32)
    padded[0, :6], padded[1, :6] = maps, maps[:, ::-1]
    image, flipped = frame.to_image(padded)
    np.testing.assert_allclose(flipped, image[:, ::-1], atol=1e-6)


def test_other_output_sizes():
    frame = Frame(height=30, width=40, side=64)
    maps = np.tile(np.float32([0, 1, 2, 3, 4, 5, 6, 7]), (8, 1))
    small = frame.to_image(maps, height=15, width=20)
    assert small.shape == (15, 20)
    # Pixel centres of the small image lie between two centres of the large one.
    large = frame.to_image(maps)
    np.testing.assert_allclose(small[5, 3:-3], large[10].reshape(20, 2).mean(axis=1)[3:-3], atol=1e-5)
    assert frame.to_image(maps[None, None]).shape == (1, 1, 30, 40)


@given(frames, st.integers(1, 50))
@settings(deadline=None, max_examples=50)
def test_to_frame_keeps_places_in_the_image(frame, cells):
    """A ramp over the image, such as a cell's own place, is the same ramp on the other frame."""
    other = Frame(frame.height, frame.width, cells * STRIDE)
    for axis in (0, 1):
        centers = (np.arange(frame.grid, dtype=np.float32) + 0.5) * STRIDE / frame.content[axis]
        ramp = np.broadcast_to(centers[:, np.newaxis] if axis == 0 else centers, (frame.grid, frame.grid))
        found = frame.to_frame(ramp[np.newaxis], other.side)[0]
        places = (np.arange(other.grid) + 0.5) * STRIDE / other.content[axis]
        expected = np.clip(places, centers[0], centers[frame.valid_cells[axis] - 1])
        rows, columns = other.valid_cells
        inside = found[:rows, :columns]
        np.testing.assert_allclose(
            inside if axis == 1 else inside.T,
            np.tile(expected[: inside.shape[axis]], (inside.shape[1 - axis], 1)),
            rtol=1e-4,
        )
        assert not found[rows:].any() and not found[:, columns:].any()


def test_to_the_same_frame_is_the_identity():
    frame = Frame(300, 400, 96)
    maps = np.random.default_rng(0).random((2, 12, 12), np.float32)
    maps[:, frame.valid_cells[0] :] = 0
    np.testing.assert_array_equal(frame.to_frame(maps, 96), maps)
