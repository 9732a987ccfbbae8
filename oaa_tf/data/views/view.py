"""Views: augmented versions of an image, with the affine transform that relates them to the canonical frame.

A view shows the frame (see `oaa_tf.data.views.frame`) scaled, shifted and perhaps mirrored on a canvas, the network's
input (see `oaa_tf.data.views.canvases`). A point with frame coordinates `f` (pixels, continuous) has the view
coordinates

    v = scale * f - offset,    then, if mirrored,    v_x = width of the canvas - v_x.

The transform travels with the image as a float32 vector `[scale_y, scale_x, offset_y, offset_x, mirrored]`, so that
attention on a view can be mapped back to the frame, cell by cell, before it is accumulated. Mirroring acts on the
whole canvas: it permutes grid cells and is inverted without rounding.
"""

import tensorflow as tf

from oaa_tf.data.views.frame import STRIDE
from oaa_tf.data.views.view_options import ViewOptions

MEAN_RGB = (123.68, 116.779, 103.939)
"""ImageNet channel means; padding has this color, so that it is zero after the networks' preprocessing."""


def frame_content(height: tf.Tensor, width: tf.Tensor, frame_size: int) -> tf.Tensor:
    """Size of the resized image in the frame; `Frame.content` in a graph.

    Args:
        height: int32 scalar, pixels of the original image.
        width: int32 scalar, pixels of the original image.
        frame_size: Long side of the image in the frame, in pixels.

    Returns:
        int32 `[2]`, height and width in pixels of the frame.
    """
    # In int32, since LiteRT cannot divide int64. Images are too small to overflow it.
    size = tf.stack([height, width])
    longest = tf.reduce_max(size)
    return tf.maximum((2 * size * frame_size + longest) // (2 * longest), 1)


def random_view(
    seed: tf.Tensor, content: tf.Tensor, canvas: tf.Tensor, options: ViewOptions
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws a view; a pure function of the seed.

    Args:
        seed: int32 or int64 `[2]`.
        content: int32 `[2]`, the size of the image in the frame.
        canvas: int32 `[2]`, height and width of the canvas in pixels.
        options: What views look like.

    Returns:
        The view, float32 `[5]`, and the size in pixels to which the image is resized for it, int32 `[2]`. The view's
        scale is the exact ratio of that size to the content, per axis.
    """
    draws = tf.random.stateless_uniform([4], seed)
    scale = options.min_scale + draws[0] * (options.max_scale - options.min_scale)
    size, ratio = _scaled(content, scale)
    excess = tf.cast(tf.maximum(size - canvas, 0), tf.float32)
    offset = tf.floor(draws[1:3] * (excess + 1.0))
    mirrored = tf.cast(draws[3] < 0.5 if options.flip else False, tf.float32)
    return tf.concat([ratio, offset, [mirrored]], axis=0), size


def whole_view(content: tf.Tensor, scale: float, mirrored: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """The view of the whole image at a scale, mirrored or not; the frame itself at scale 1.

    Args:
        content: int32 `[2]`, the size of the image in the frame.
        scale: Size in the view over size in the frame.
        mirrored: Whether the view is mirrored.

    Returns:
        As `random_view`.
    """
    size, ratio = _scaled(content, scale)
    return tf.concat([ratio, [0.0, 0.0, float(mirrored)]], axis=0), size


def _scaled(content: tf.Tensor, scale: float | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The content's size at a scale, int32 `[2]`, and its exact ratio to the content, float32 `[2]`."""
    size = tf.maximum(tf.cast(tf.round(tf.cast(content, tf.float32) * scale), tf.int32), 1)
    return size, tf.cast(size, tf.float32) / tf.cast(content, tf.float32)


def render(
    picture: tf.Tensor, view: tf.Tensor, size: tf.Tensor, canvas: tf.Tensor, *, method: str, padding: tuple[float, ...]
) -> tf.Tensor:
    """Draws the view of an image or of its mask.

    Args:
        picture: uint8 or float32 `[height, width, channels]`, the original image.
        view: float32 `[5]`.
        size: int32 `[2]`, from `random_view`.
        canvas: int32 `[2]`, height and width of the canvas in pixels.
        method: "bilinear" (antialiased) for images, "nearest" for masks.
        padding: One value per channel for pixels that the image does not cover.

    Returns:
        `[canvas[0], canvas[1], channels]`: float32 for "bilinear", the input's dtype for "nearest".
    """
    resized = tf.image.resize(picture, size, method=method, antialias=method == "bilinear")
    top, left = tf.unstack(tf.cast(view[2:4], tf.int32))
    shown = resized[top : top + canvas[0], left : left + canvas[1]]
    margins = [[0, canvas[0] - tf.shape(shown)[0]], [0, canvas[1] - tf.shape(shown)[1]], [0, 0]]
    covered = tf.pad(tf.ones_like(shown[:, :, :1], tf.bool), margins)
    shown = tf.where(covered, tf.pad(shown, margins), tf.cast(tf.constant(padding), shown.dtype))
    shown = tf.cond(view[4] > 0, lambda: tf.reverse(shown, axis=[1]), lambda: shown)
    return tf.ensure_shape(shown, [None, None, len(padding)])


def frame_valid_cells(content: tf.Tensor, grid: int) -> tf.Tensor:
    """The frame's cells that the image fills at least half; `Frame.valid_cells` in a graph.

    Args:
        content: int32 `[batch, 2]`.
        grid: Cells per side of the frame's grid.

    Returns:
        bool `[batch, grid, grid]`.
    """
    centers = (tf.range(grid, dtype=tf.float32) + 0.5) * STRIDE
    filled = tf.maximum(tf.cast(content, tf.float32), STRIDE / 2)
    rows, columns = (centers <= filled[:, axis, tf.newaxis] for axis in (0, 1))
    return tf.expand_dims(rows, 2) & tf.expand_dims(columns, 1)


def view_valid_cells(content: tf.Tensor, view: tf.Tensor, cells: tf.Tensor) -> tf.Tensor:
    """The view's cells whose centre shows the image, not padding.

    Args:
        content: int32 `[batch, 2]`.
        view: float32 `[batch, 5]`.
        cells: int32 `[2]`, rows and columns of the canvas' grid.

    Returns:
        bool `[batch, rows, columns]`.
    """
    filled = tf.maximum(tf.cast(content, tf.float32), STRIDE / 2)
    inside = []
    for axis in (0, 1):
        pixels = _view_to_frame_pixels(view, cells, axis)
        inside.append((pixels >= 0) & (pixels <= filled[:, axis, tf.newaxis]))
    return inside[0][:, :, tf.newaxis] & inside[1][:, tf.newaxis, :]


def attention_to_frame(
    attention: tf.Tensor, view_valid: tf.Tensor, frame_valid: tf.Tensor, view: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Resamples attention from a view's grid to the frame's grid.

    Interpolates valid cells bilinearly; exact where the view is the frame or its mirror image.

    Args:
        attention: float32 `[batch, rows, columns, classes]` on the view's grid.
        view_valid: bool `[batch, rows, columns]`, from `view_valid_cells`.
        frame_valid: bool `[batch, grid, grid]`, from `frame_valid_cells`.
        view: float32 `[batch, 5]`.

    Returns:
        The attention on the frame's grid, float32 `[batch, grid, grid, classes]`, 0 where the view shows nothing, and
        the cells that the view shows, bool `[batch, grid, grid]`.
    """
    canvas_cells, frame_cells = tf.shape(view_valid)[1:], tf.shape(frame_valid)[1:]
    pixels = [_frame_to_view_pixels(view, frame_cells, canvas_cells, axis) for axis in (0, 1)]
    return _resample(attention, view_valid, frame_valid, pixels, view[:, :2])


def attention_to_view(
    attention: tf.Tensor, frame_valid: tf.Tensor, view_valid: tf.Tensor, view: tf.Tensor
) -> tf.Tensor:
    """Resamples attention from the frame's grid to a view's grid, the inverse of `attention_to_frame`.

    Args:
        attention: float32 `[batch, grid, grid, classes]` on the frame's grid.
        frame_valid: bool `[batch, grid, grid]`.
        view_valid: bool `[batch, rows, columns]`.
        view: float32 `[batch, 5]`.

    Returns:
        float32 `[batch, rows, columns, classes]`, 0 in padding.
    """
    pixels = [_view_to_frame_pixels(view, tf.shape(view_valid)[1:], axis) for axis in (0, 1)]
    return _resample(attention, frame_valid, view_valid, pixels, 1.0 / view[:, :2])[0]


def _centers(num_cells: tf.Tensor) -> tf.Tensor:
    return (tf.cast(tf.range(num_cells), tf.float32)[tf.newaxis] + 0.5) * STRIDE


def _mirror(pixels: tf.Tensor, view: tf.Tensor, num_columns: tf.Tensor) -> tf.Tensor:
    width = tf.cast(num_columns * STRIDE, tf.float32)
    return tf.where(view[:, 4:] > 0, width - pixels, pixels)


def _frame_to_view_pixels(view: tf.Tensor, frame_cells: tf.Tensor, canvas_cells: tf.Tensor, axis: int) -> tf.Tensor:
    """Where the centres of the frame's cells lie in the view, float32 `[batch, frame_cells[axis]]`."""
    pixels = view[:, axis, tf.newaxis] * _centers(frame_cells[axis]) - view[:, 2 + axis, tf.newaxis]
    return _mirror(pixels, view, canvas_cells[1]) if axis == 1 else pixels


def _view_to_frame_pixels(view: tf.Tensor, canvas_cells: tf.Tensor, axis: int) -> tf.Tensor:
    """Where the centres of the view's cells lie in the frame, float32 `[batch, canvas_cells[axis]]`."""
    pixels = _centers(canvas_cells[axis])
    if axis == 1:
        pixels = _mirror(pixels, view, canvas_cells[1])
    return (pixels + view[:, 2 + axis, tf.newaxis]) / view[:, axis, tf.newaxis]


def _resample(
    attention: tf.Tensor, input_valid: tf.Tensor, target_valid: tf.Tensor, pixels: list[tf.Tensor], shrink: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Samples `attention` at `pixels`: input coordinates of the target's cell centres, `[batch, cells]` per axis.

    One matrix of tent-shaped weights per axis; tents are wider where the input grid is finer than the target's
    (`shrink` > 1).
    """
    weights = []
    for axis in (0, 1):
        num_cells = tf.shape(input_valid)[1 + axis]
        cells = tf.cast(tf.range(num_cells), tf.float32)
        last = tf.cast(num_cells - 1, tf.float32)
        place = pixels[axis] / STRIDE - 0.5
        # A centre in the outer half of the border cells takes the border cell's value.
        inside = (place >= -0.5) & (place <= last + 0.5)
        place = tf.clip_by_value(place, 0.0, last)
        width = tf.maximum(shrink[:, axis, tf.newaxis, tf.newaxis], 1.0)
        tent = tf.nn.relu(1.0 - tf.abs(place[:, :, tf.newaxis] - cells) / width)
        tent /= tf.reduce_sum(tent, axis=2, keepdims=True)
        weights.append(tf.where(inside[:, :, tf.newaxis], tent, 0.0))
    valid = tf.cast(input_valid, tf.float32)
    weight = tf.einsum("bij,bjk,blk->bil", weights[0], valid, weights[1])
    total = tf.einsum("bij,bjkc,blk->bilc", weights[0], attention * valid[..., tf.newaxis], weights[1])
    # A valid target cell lies less than a cell away from a valid input cell, which alone determines its value, however
    # small its weight is.
    seen = target_valid & (weight > 0)
    resampled = tf.math.divide_no_nan(total, weight[..., tf.newaxis])
    return tf.where(seen[..., tf.newaxis], resampled, 0.0), seen
