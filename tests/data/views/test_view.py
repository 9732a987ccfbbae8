"""Views: what is drawn where, and the way back to the canonical frame."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.data.views.canvases import choose_canvases
from oaa_tf.data.views.frame import STRIDE, Frame
from oaa_tf.data.views.view import (
    MEAN_RGB,
    attention_to_frame,
    attention_to_view,
    frame_content,
    frame_valid_cells,
    random_view,
    render,
    view_valid_cells,
    whole_view,
)
from oaa_tf.data.views.view_options import ViewOptions

CANVAS = 48
GRID = CANVAS // STRIDE
SQUARE = (CANVAS, CANVAS)
IDENTITY_VIEW = (1.0, 1.0, 0.0, 0.0, 0.0)
MIRRORED_VIEW = (1.0, 1.0, 0.0, 0.0, 1.0)


def to_view(point, view) -> np.ndarray:
    """Frame coordinates (y, x) in pixels to view coordinates: the definition, in numpy."""
    scale_y, scale_x, offset_y, offset_x, mirrored = (float(number) for number in view)
    y, x = scale_y * point[0] - offset_y, scale_x * point[1] - offset_x
    return np.array([y, CANVAS - x if mirrored else x])


def draw_view(height: int, width: int, seed: int, **options) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Content, view and size of a random view."""
    content = frame_content(height, width, CANVAS)
    return content, *random_view(tf.constant([seed, 7]), content, SQUARE, ViewOptions(CANVAS, **options))


def valid_masks(content, view) -> tuple[tf.Tensor, tf.Tensor]:
    """Valid cells of the frame and of the view, batches of one."""
    content, view = content[tf.newaxis], tf.constant(view, tf.float32)[tf.newaxis]
    return frame_valid_cells(content, GRID), view_valid_cells(content, view, (GRID, GRID))


def centers(grid: int = GRID) -> np.ndarray:
    return (np.arange(grid) + 0.5) * STRIDE


def smooth(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A smooth picture on the frame, with values in [0, 1]."""
    return 0.5 + 0.25 * np.sin(y / 17 + 0.4) + 0.25 * np.cos(x / 13)


# --- the frame, in a graph ---


@settings(deadline=None, max_examples=200)
@given(height=st.integers(1, 6000), width=st.integers(1, 6000), cells=st.integers(2, 80))
def test_frame_content_and_valid_cells_equal_those_of_frame(height: int, width: int, cells: int) -> None:
    frame = Frame(height, width, cells * STRIDE)
    content = frame_content(height, width, frame.side)
    assert tuple(content.numpy()) == frame.content
    expected = np.zeros((cells, cells), bool)
    expected[: frame.valid_cells[0], : frame.valid_cells[1]] = True
    np.testing.assert_array_equal(frame_valid_cells(content[tf.newaxis], cells)[0], expected)


# --- drawing views ---


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    seed=st.integers(0, 2**31 - 1),
    low=st.floats(0.3, 1.5),
    spread=st.floats(0, 1.5),
)
def test_random_views_keep_to_their_options(height: int, width: int, seed: int, low: float, spread: float) -> None:
    content, view, size = draw_view(height, width, seed, min_scale=low, max_scale=low + spread)
    content, view, size = content.numpy(), view.numpy(), size.numpy()
    np.testing.assert_allclose(view[:2], size / content, rtol=1e-6)
    for axis in (0, 1):
        assert max(1, np.floor(low * content[axis])) <= size[axis] <= max(1, np.ceil((low + spread) * content[axis]))
        offset = view[2 + axis]
        assert offset == int(offset) and 0 <= offset <= max(size[axis] - CANVAS, 0)
    # One draw scales both axes.
    scales = size / content
    assert abs(scales[0] - scales[1]) <= 0.51 * np.sum(1 / content) + 1e-6 or 1 in size
    assert view[4] in (0, 1)


def test_random_views_are_a_pure_function_of_the_seed() -> None:
    options = {"min_scale": 0.7, "max_scale": 1.6}
    views = [draw_view(40, 60, seed, **options)[1].numpy() for seed in range(60)]
    for seed, view in enumerate(views):
        np.testing.assert_array_equal(draw_view(40, 60, seed, **options)[1], view)
    views = np.stack(views)
    assert len(np.unique(views[:, 1])) > 20
    assert 15 < views[:, 4].sum() < 45
    assert len(np.unique(views[:, 3])) > 5


def test_without_augmentation_a_view_is_the_frame() -> None:
    content, view, size = draw_view(40, 60, 3, flip=False)
    np.testing.assert_array_equal(view, IDENTITY_VIEW)
    np.testing.assert_array_equal(size, content)


# --- the way back ---


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 10_000))
@pytest.mark.parametrize("view", [IDENTITY_VIEW, MIRRORED_VIEW])
def test_identity_and_flip_are_inverted_bit_for_bit(view: tuple, height: int, width: int, seed: int) -> None:
    content = frame_content(height, width, CANVAS)
    frame_valid, view_valid = valid_masks(content, view)
    flip = (lambda array: np.flip(array, axis=2)) if view[4] else (lambda array: array)
    np.testing.assert_array_equal(view_valid, flip(frame_valid.numpy()))

    attention = np.random.default_rng(seed).uniform(0, 1, (1, GRID, GRID, 3)).astype(np.float32)
    found, seen = attention_to_frame(attention, view_valid, frame_valid, tf.constant([view]))
    np.testing.assert_array_equal(seen, frame_valid)
    np.testing.assert_array_equal(found, flip(attention) * frame_valid.numpy()[..., np.newaxis])
    shown = attention_to_view(found, frame_valid, view_valid, tf.constant([view]))
    np.testing.assert_array_equal(shown, attention * view_valid.numpy()[..., np.newaxis])


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 10_000), mirrored=st.booleans())
def test_identity_and_flip_on_the_images_own_canvas(height: int, width: int, seed: int, mirrored: bool) -> None:
    content = frame_content(height, width, CANVAS)
    (canvas,) = choose_canvases(np.array([(height, width)]), CANVAS)
    rows, columns = canvas // STRIDE
    view = tf.constant([MIRRORED_VIEW if mirrored else IDENTITY_VIEW])
    frame_valid = frame_valid_cells(content[tf.newaxis], GRID)
    view_valid = view_valid_cells(content[tf.newaxis], view, (rows, columns))
    attention = np.random.default_rng(seed).uniform(0, 1, (1, rows, columns, 2)).astype(np.float32)
    found, seen = attention_to_frame(attention, view_valid, frame_valid, view)
    # Every cell of the image is on its canvas.
    np.testing.assert_array_equal(seen, frame_valid)
    upright = attention[:, :, ::-1] if mirrored else attention
    expected = np.zeros((1, GRID, GRID, 2), np.float32)
    expected[:, :rows, :columns] = upright
    np.testing.assert_array_equal(found, expected * frame_valid.numpy()[..., np.newaxis])
    shown = attention_to_view(found, frame_valid, view_valid, view)
    np.testing.assert_array_equal(shown, attention * view_valid.numpy()[..., np.newaxis])


def view_examples():
    """Image sizes and views by hand: enlarged, reduced, cropped, mirrored, other scales per axis."""
    yield from (
        ((48, 48), (2.0, 2.0, 24.0, 24.0, 0.0)),
        ((48, 48), (2.0, 2.0, 0.0, 48.0, 1.0)),
        ((48, 48), (1.5, 1.5, 5.0, 17.0, 0.0)),
        ((48, 30), (1.25, 1.2666667, 9.0, 0.0, 1.0)),
        ((48, 48), (0.75, 0.75, 0.0, 0.0, 0.0)),
        ((30, 48), (0.7333333, 0.7291667, 0.0, 0.0, 1.0)),
    )


@pytest.mark.parametrize(("content", "view"), view_examples())
def test_a_smooth_map_survives_the_way_to_the_frame(content: tuple[int, int], view: tuple) -> None:
    frame_valid, view_valid = valid_masks(tf.constant(content), view)
    view_y, view_x = np.meshgrid(centers(), centers(), indexing="ij")
    if view[4]:
        view_x = CANVAS - view_x
    on_view = smooth((view_y + view[2]) / view[0], (view_x + view[3]) / view[1]).astype(np.float32)
    found, seen = attention_to_frame(
        on_view[np.newaxis, ..., np.newaxis], view_valid, frame_valid, tf.constant([view], tf.float32)
    )
    found, seen = found.numpy()[0, ..., 0], seen.numpy()[0]
    expected = smooth(centers()[:, np.newaxis], centers())

    # Cells whose centre the view shows, but for a margin of half a cell of the coarser grid, where bilinear
    # interpolation has neighbours on both sides.
    margin = STRIDE * max(1, view[0]) / 2 - 0.01
    inner = np.zeros_like(seen)
    outside = np.zeros_like(seen)
    for i, j in np.ndindex(GRID, GRID):
        y, x = to_view((centers()[i], centers()[j]), view)
        is_content = centers()[i] <= content[0] and centers()[j] <= content[1]
        near_border = centers()[i] > content[0] - STRIDE or centers()[j] > content[1] - STRIDE
        inside = margin <= y <= CANVAS - margin and margin <= x <= CANVAS - margin
        inner[i, j] = inside and is_content and not near_border
        outside[i, j] = not is_content or not (0 <= y <= CANVAS and 0 <= x <= CANVAS)
    assert inner.sum() >= 4
    assert np.all(seen[inner])
    assert not np.any(seen[outside])
    assert np.all(found[~seen] == 0)
    np.testing.assert_allclose(found[inner], expected[inner], atol=0.03)
    # At the border the nearest cell's value is taken, which is off by what changes on half a cell.
    np.testing.assert_allclose(found[seen], expected[seen], atol=0.15)


def test_a_crop_shows_exactly_its_quarter_of_the_frame() -> None:
    # Scale 2, lower right quarter: frame cells 3, 4, 5 are seen in both directions.
    view = (2.0, 2.0, 48.0, 48.0, 0.0)
    frame_valid, view_valid = valid_masks(tf.constant([48, 48]), view)
    attention = np.random.default_rng(0).uniform(0, 1, (1, GRID, GRID, 1)).astype(np.float32)
    found, seen = attention_to_frame(attention, view_valid, frame_valid, tf.constant([view]))
    expected = np.zeros((GRID, GRID), bool)
    expected[3:, 3:] = True
    np.testing.assert_array_equal(seen[0], expected)
    # A frame cell covers 2 x 2 view cells; the tent of twice the width takes them and their neighbours.
    tent = np.array([0.25, 0.75, 0.75, 0.25])
    weights = np.outer(tent, tent) / 4
    np.testing.assert_allclose(found[0, 4, 4, 0], np.sum(weights * attention[0, 1:5, 1:5, 0]), rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    seed=st.integers(0, 10_000),
    low=st.floats(0.4, 1.2),
    spread=st.floats(0, 1.2),
)
def test_attention_stays_in_range_and_out_of_padding(
    height: int, width: int, seed: int, low: float, spread: float
) -> None:
    content, view, _ = draw_view(height, width, seed, min_scale=low, max_scale=low + spread)
    frame_valid, view_valid = valid_masks(content, view)
    attention = np.random.default_rng(seed).uniform(0.2, 1, (1, GRID, GRID, 2)).astype(np.float32)
    poisoned = np.where(view_valid.numpy()[..., np.newaxis], attention, np.float32(1e6))
    found, seen = attention_to_frame(poisoned, view_valid, frame_valid, view[tf.newaxis])
    found, seen = found.numpy(), seen.numpy()
    assert not np.any(seen & ~frame_valid.numpy())
    assert np.all(found[~seen] == 0)
    assert np.all((found[seen] >= 0.2 - 1e-6) & (found[seen] <= 1 + 1e-6))
    shown = attention_to_view(attention, frame_valid, view_valid, view[tf.newaxis]).numpy()
    assert np.all(shown[~view_valid.numpy()] == 0)
    assert np.all((shown[view_valid.numpy()] >= 0.2 - 1e-6) & (shown[view_valid.numpy()] <= 1 + 1e-6))


@pytest.mark.parametrize(
    ("content", "view"),
    [
        ((48, 48), (2.0, 2.0, 13.0, 30.0, 0.0)),
        ((48, 48), (2.0, 2.0, 13.0, 30.0, 1.0)),
        ((48, 36), (1.5, 1.5, 20.0, 6.0, 1.0)),
    ],
)
def test_to_view_and_back_again(content: tuple[int, int], view: tuple) -> None:
    frame_valid, view_valid = valid_masks(tf.constant(content), view)
    on_frame = smooth(centers()[:, np.newaxis], centers()).astype(np.float32)[np.newaxis, ..., np.newaxis]
    shown = attention_to_view(on_frame, frame_valid, view_valid, tf.constant([view], tf.float32))
    back, seen = attention_to_frame(shown, view_valid, frame_valid, tf.constant([view], tf.float32))
    seen = seen.numpy()
    assert seen.sum() >= 9
    np.testing.assert_allclose(back.numpy()[seen], on_frame[seen], atol=0.1)


@settings(deadline=None, max_examples=100)
@given(height=st.integers(60, 200), width=st.integers(60, 200), scale=st.floats(0.5, 2.5), mirrored=st.booleans())
def test_whole_views_show_the_whole_frame(height: int, width: int, scale: float, mirrored: bool) -> None:
    content = frame_content(height, width, CANVAS)
    view, size = whole_view(content, scale, mirrored)
    cells = (int(size.numpy().max()) + STRIDE - 1) // STRIDE
    frame_valid = frame_valid_cells(content[tf.newaxis], GRID)
    view_valid = view_valid_cells(content[tf.newaxis], view[tf.newaxis], (cells, cells))
    everywhere = np.ones((1, cells, cells, 1), np.float32)
    found, seen = attention_to_frame(everywhere, view_valid, frame_valid, view[tf.newaxis])
    np.testing.assert_array_equal(seen, frame_valid)
    np.testing.assert_allclose(found[..., 0], np.float32(frame_valid), rtol=1e-5)


def test_views_of_a_batch_do_not_mix() -> None:
    examples = list(view_examples())
    content = tf.constant([content for content, _ in examples])
    view = tf.constant([view for _, view in examples], tf.float32)
    attention = np.random.default_rng(1).uniform(0, 1, (len(examples), GRID, GRID, 2)).astype(np.float32)
    frame_valid, view_valid = frame_valid_cells(content, GRID), view_valid_cells(content, view, (GRID, GRID))
    found, seen = attention_to_frame(attention, view_valid, frame_valid, view)
    for index in range(len(examples)):
        one = slice(index, index + 1)
        alone, alone_seen = attention_to_frame(attention[one], view_valid[one], frame_valid[one], view[one])
        np.testing.assert_allclose(found[one], alone, rtol=1e-5)
        np.testing.assert_array_equal(seen[one], alone_seen)


# --- pictures ---


def picture_with_square(height: int, width: int, top: int, left: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """A dark image with a bright square, and its mask with label 3."""
    image = np.full((height, width, 3), 20, np.uint8)
    mask = np.zeros((height, width, 1), np.uint8)
    image[top : top + side, left : left + side] = 250
    mask[top : top + side, left : left + side] = 3
    return image, mask


def centroid(weights: np.ndarray) -> np.ndarray:
    """Centre of mass in continuous coordinates."""
    weights = np.asarray(weights, np.float64)
    return np.array(
        [np.sum(weights.sum(axis=1 - axis) * (np.arange(weights.shape[axis]) + 0.5)) / weights.sum() for axis in (0, 1)]
    )


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), tall=st.booleans())
def test_image_mask_and_grid_show_a_square_at_the_same_place(seed: int, tall: bool) -> None:
    height, width = (120, 90) if tall else (96, 150)
    image, mask = picture_with_square(height, width, top=40, left=36, side=24)
    content, view, size = draw_view(height, width, seed, min_scale=0.7, max_scale=1.4)
    frame_center = np.array([52 / height, 48 / width]) * content.numpy()
    y, x = to_view(frame_center, view.numpy())

    shown = render(image, view, size, SQUARE, method="bilinear", padding=MEAN_RGB).numpy()
    labels = render(mask, view, size, SQUARE, method="nearest", padding=(255,)).numpy()
    assert shown.shape == (CANVAS, CANVAS, 3) and shown.dtype == np.float32
    assert labels.shape == (CANVAS, CANVAS, 1) and labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 3, 255}
    # Padding is the same place in both.
    np.testing.assert_array_equal(np.all(shown == np.float32(MEAN_RGB), axis=-1), labels[..., 0] == 255)

    half = 12 * view.numpy()[:2] * content.numpy() / (height, width)
    if not (half[0] < y < CANVAS - half[0] and half[1] < x < CANVAS - half[1]):
        return  # The square is cut off: its centre of mass is elsewhere.
    np.testing.assert_allclose(centroid(labels[..., 0] == 3), (y, x), atol=0.6)
    brightness = np.where(labels[..., 0] == 255, 0, shown[..., 0] - 20)
    np.testing.assert_allclose(centroid(brightness), (y, x), atol=0.3)

    # The same square as attention on the frame's grid, by the area that it covers of each cell.
    on_frame = render(mask, tf.constant(IDENTITY_VIEW), content, SQUARE, method="nearest", padding=(0,)).numpy()
    cells = (on_frame == 3).reshape(GRID, STRIDE, GRID, STRIDE).mean(axis=(1, 3)).astype(np.float32)
    frame_valid, view_valid = valid_masks(content, view)
    on_view = attention_to_view(cells[np.newaxis, ..., np.newaxis], frame_valid, view_valid, view[tf.newaxis])
    np.testing.assert_allclose(centroid(on_view[0, ..., 0]) * STRIDE, (y, x), atol=3.5)


def test_render_by_hand() -> None:
    # Four columns 10, 20, 30, 40, drawn twice as large, two pixels cut off at the left, then mirrored.
    image = np.zeros((2, 4, 1), np.uint8)
    image[0, :, 0] = [10, 20, 30, 40]
    view = tf.constant([2.0, 2.0, 0.0, 2.0, 0.0])
    shown = render(image, view, tf.constant([4, 8]), (8, 8), method="nearest", padding=(99,)).numpy()[..., 0]
    np.testing.assert_array_equal(shown[0], [20, 20, 30, 30, 40, 40, 99, 99])
    np.testing.assert_array_equal(shown[2, :6], 0)
    np.testing.assert_array_equal(shown[4:], 99)
    mirrored = render(
        image, tf.constant([2.0, 2.0, 0.0, 2.0, 1.0]), tf.constant([4, 8]), (8, 8), method="nearest", padding=(99,)
    )
    np.testing.assert_array_equal(mirrored[..., 0], shown[:, ::-1])


def test_reducing_an_image_averages_its_pixels() -> None:
    # Stripes of one pixel: without antialiasing, half of them would vanish and the other half stay.
    image = np.zeros((96, 96, 1), np.uint8)
    image[:, ::2] = 200
    shown = render(
        image, tf.constant(IDENTITY_VIEW), tf.constant([48, 48]), (48, 48), method="bilinear", padding=(0.0,)
    )
    np.testing.assert_allclose(shown[4:-4, 4:-4], 100, atol=1)


def test_valid_cells_of_a_view_are_those_whose_centre_is_covered() -> None:
    options = {"min_scale": 0.6, "max_scale": 1.5}
    for seed in range(40):
        height, width = 30 + seed, 90 - seed
        content, view, size = draw_view(height, width, seed, **options)
        picture = np.full((height, width, 1), 1, np.uint8)
        covered = render(picture, view, size, SQUARE, method="nearest", padding=(0,)).numpy()[..., 0] == 1
        # A cell's centre lies between its fourth and fifth pixel.
        fourth, fifth = covered[3::STRIDE, 3::STRIDE], covered[4::STRIDE, 4::STRIDE]
        _, valid = valid_masks(content, view)
        np.testing.assert_array_equal(valid[0].numpy()[fourth & fifth], True)
        np.testing.assert_array_equal(valid[0].numpy()[~fourth & ~fifth], False)


def test_a_pipeline_draws_what_eager_code_draws() -> None:
    image, _ = picture_with_square(70, 50, top=20, left=10, side=20)
    options = ViewOptions(CANVAS, min_scale=0.7, max_scale=1.5)

    def draw(seed):
        content = frame_content(70, 50, CANVAS)
        view, size = random_view(tf.stack([seed, 3]), content, SQUARE, options)
        return render(image, view, size, SQUARE, method="bilinear", padding=MEAN_RGB), view

    for seed, (drawn, view) in enumerate(tf.data.Dataset.range(8).map(draw)):
        eager, eager_view = draw(tf.constant(seed, tf.int64))
        np.testing.assert_array_equal(view, eager_view)
        np.testing.assert_array_equal(drawn, eager)


def test_crops_of_a_larger_frame() -> None:
    options = ViewOptions(CANVAS, frame_size=160, flip=False)
    content = frame_content(100, 200, options.frame_size)
    assert tuple(content.numpy()) == (80, 160)
    offsets = set()
    for seed in range(30):
        view, size = random_view(tf.constant([seed, 0]), content, SQUARE, options)
        assert tuple(size.numpy()) == (80, 160)
        offsets.add(tuple(view.numpy()[2:4]))
        assert 0 <= view[2] <= 80 - CANVAS and 0 <= view[3] <= 160 - CANVAS
    assert len(offsets) > 20


@pytest.mark.parametrize(("scale", "size"), [(1.0, (48, 31)), (0.5, (24, 16)), (1.5, (72, 46)), (0.001, (1, 1))])
@pytest.mark.parametrize("mirrored", [False, True])
def test_whole_view(scale: float, size: tuple[int, int], mirrored: bool) -> None:
    view, found = whole_view(tf.constant([48, 31]), scale, mirrored)
    assert tuple(found.numpy()) == size
    np.testing.assert_allclose(view, [size[0] / 48, size[1] / 31, 0, 0, mirrored], rtol=1e-6)
