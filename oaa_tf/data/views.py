"""Views: augmented looks at an image, with the affine transform that ties them to the canonical frame.

A view shows the frame (see `oaa_tf.data.frame`) scaled, shifted and perhaps mirrored on a canvas of the same size. For
a point with frame coordinates `f` (canvas pixels, continuous), the view's coordinates are

    v = scale * f - offset,    then, if mirrored,    v_x = canvas - v_x.

The transform travels with the image as a float32 vector `[scale_y, scale_x, offset_y, offset_x, mirrored]`, so that
attention found on a view can be brought back to the frame, cell by cell, before it is accumulated. Mirroring acts on
the whole canvas: it permutes grid cells and is inverted without any rounding.
"""

import dataclasses

import tensorflow as tf

from oaa_tf.data.frame import STRIDE

MEAN_RGB = (123.68, 116.779, 103.939)
"""ImageNet channel means; padding has this color, so that it is zero after the networks' preprocessing."""

IDENTITY_VIEW = (1.0, 1.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """What views look like.

    Attributes:
        canvas: Side of the square canvas in pixels, a multiple of `STRIDE`.
        flip: Whether half of the views are mirrored.
        min_scale: Least scale relative to the frame.
        max_scale: Greatest scale relative to the frame. What exceeds the canvas is cropped at a random place.
        frame_size: Long side in pixels of the image in the frame, the canvas' side if None. Segmentation takes crops
            of larger frames; attention is brought back to frames of the canvas' size only.
    """

    canvas: int
    flip: bool = True
    min_scale: float = 1.0
    max_scale: float = 1.0
    frame_size: int | None = None

    @property
    def grid(self) -> int:
        """Cells per side of the grid."""
        return self.canvas // STRIDE


def frame_content(height: tf.Tensor, width: tf.Tensor, canvas: int) -> tf.Tensor:
    """Size of the resized image on the canvas, as `Frame.content`.

    Args:
        height: int32 scalar, pixels of the original image.
        width: int32 scalar.
        canvas: Side of the canvas in pixels.

    Returns:
        int32 `[2]`, height and width in canvas pixels.
    """
    size = tf.cast(tf.stack([height, width]), tf.int64)
    longest = tf.reduce_max(size)
    return tf.cast(tf.maximum((2 * size * canvas + longest) // (2 * longest), 1), tf.int32)


def random_view(seed: tf.Tensor, content: tf.Tensor, options: ViewOptions) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws a view; a pure function of the seed.

    Args:
        seed: int32 or int64 `[2]`.
        content: int32 `[2]`, the size of the image on the canvas.
        options: What views look like.

    Returns:
        The view, float32 `[5]`, and the size in pixels, int32 `[2]`, to which the image is resized for it. The scale in
        the view is the exact ratio of that size to the content, per axis.
    """
    draws = tf.random.stateless_uniform([4], seed)
    scale = options.min_scale + draws[0] * (options.max_scale - options.min_scale)
    size = tf.maximum(tf.cast(tf.round(tf.cast(content, tf.float32) * scale), tf.int32), 1)
    excess = tf.cast(tf.maximum(size - options.canvas, 0), tf.float32)
    offset = tf.floor(draws[1:3] * (excess + 1.0))
    mirrored = tf.cast(draws[3] < 0.5 if options.flip else False, tf.float32)
    ratio = tf.cast(size, tf.float32) / tf.cast(content, tf.float32)
    return tf.concat([ratio, offset, [mirrored]], axis=0), size


def render(
    picture: tf.Tensor, view: tf.Tensor, size: tf.Tensor, canvas: int, *, method: str, padding: tuple[float, ...]
) -> tf.Tensor:
    """Draws an image, or its mask, as the view shows it.

    Args:
        picture: uint8 or float32 `[height, width, channels]`, the original image.
        view: float32 `[5]`.
        size: int32 `[2]`, from `random_view`.
        canvas: Side of the canvas in pixels.
        method: "bilinear" (antialiased) for images, "nearest" for masks.
        padding: One value per channel for what the image does not cover.

    Returns:
        `[canvas, canvas, channels]`: float32 for "bilinear", the input's dtype for "nearest".
    """
    resized = tf.image.resize(picture, size, method=method, antialias=method == "bilinear")
    top, left = tf.unstack(tf.cast(view[2:4], tf.int32))
    shown = resized[top : top + canvas, left : left + canvas]
    margins = [[0, canvas - tf.shape(shown)[0]], [0, canvas - tf.shape(shown)[1]], [0, 0]]
    covered = tf.pad(tf.ones_like(shown[:, :, :1], tf.bool), margins)
    shown = tf.where(covered, tf.pad(shown, margins), tf.cast(tf.constant(padding), shown.dtype))
    shown = tf.cond(view[4] > 0, lambda: tf.reverse(shown, axis=[1]), lambda: shown)
    return tf.ensure_shape(shown, [canvas, canvas, len(padding)])


def frame_valid_cells(content: tf.Tensor, grid: int) -> tf.Tensor:
    """The frame's cells that are at least half filled by the image, as `Frame.valid_cells`.

    Args:
        content: int32 `[batch, 2]`.
        grid: Cells per side.

    Returns:
        bool `[batch, grid, grid]`.
    """
    centers = (tf.range(grid, dtype=tf.float32) + 0.5) * STRIDE
    filled = tf.maximum(tf.cast(content, tf.float32), STRIDE / 2)
    rows, columns = (centers <= filled[:, axis, tf.newaxis] for axis in (0, 1))
    return rows[:, :, tf.newaxis] & columns[:, tf.newaxis, :]


def view_valid_cells(content: tf.Tensor, view: tf.Tensor, grid: int) -> tf.Tensor:
    """The view's cells whose centre shows the image, not padding.

    Args:
        content: int32 `[batch, 2]`.
        view: float32 `[batch, 5]`.
        grid: Cells per side.

    Returns:
        bool `[batch, grid, grid]`.
    """
    filled = tf.maximum(tf.cast(content, tf.float32), STRIDE / 2)
    inside = []
    for axis in (0, 1):
        pixels = _view_to_frame_pixels(view, grid, axis)
        inside.append((pixels >= 0) & (pixels <= filled[:, axis, tf.newaxis]))
    return inside[0][:, :, tf.newaxis] & inside[1][:, tf.newaxis, :]


def attention_to_frame(
    attention: tf.Tensor, view_valid: tf.Tensor, frame_valid: tf.Tensor, view: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Brings attention from a view's grid back to the frame's grid.

    Bilinear, weighting valid cells only; exact where the view is the frame or its mirror image.

    Args:
        attention: float32 `[batch, grid, grid, classes]` on the view's grid.
        view_valid: bool `[batch, grid, grid]`, from `view_valid_cells`.
        frame_valid: bool `[batch, grid, grid]`, from `frame_valid_cells`.
        view: float32 `[batch, 5]`.

    Returns:
        The attention on the frame's grid, float32 `[batch, grid, grid, classes]`, 0 where the view shows nothing, and
        the cells that the view shows, bool `[batch, grid, grid]`.
    """
    grid = attention.shape[1]
    pixels = [_frame_to_view_pixels(view, grid, axis) for axis in (0, 1)]
    return _resample(attention, view_valid, frame_valid, pixels, view[:, :2])


def attention_to_view(
    attention: tf.Tensor, frame_valid: tf.Tensor, view_valid: tf.Tensor, view: tf.Tensor
) -> tf.Tensor:
    """Shows attention of the frame's grid on a view's grid, the inverse of `attention_to_frame`.

    Args:
        attention: float32 `[batch, grid, grid, classes]` on the frame's grid.
        frame_valid: bool `[batch, grid, grid]`.
        view_valid: bool `[batch, grid, grid]`.
        view: float32 `[batch, 5]`.

    Returns:
        float32 `[batch, grid, grid, classes]`, 0 in padding.
    """
    grid = attention.shape[1]
    pixels = [_view_to_frame_pixels(view, grid, axis) for axis in (0, 1)]
    return _resample(attention, frame_valid, view_valid, pixels, 1.0 / view[:, :2])[0]


def _centers(grid: int) -> tf.Tensor:
    return (tf.range(grid, dtype=tf.float32)[tf.newaxis] + 0.5) * STRIDE


def _mirror(pixels: tf.Tensor, view: tf.Tensor, grid: int) -> tf.Tensor:
    return tf.where(view[:, 4:] > 0, grid * STRIDE - pixels, pixels)


def _frame_to_view_pixels(view: tf.Tensor, grid: int, axis: int) -> tf.Tensor:
    """Where the centres of the frame's cells lie in the view, float32 `[batch, grid]`."""
    pixels = view[:, axis, tf.newaxis] * _centers(grid) - view[:, 2 + axis, tf.newaxis]
    return _mirror(pixels, view, grid) if axis == 1 else pixels


def _view_to_frame_pixels(view: tf.Tensor, grid: int, axis: int) -> tf.Tensor:
    """Where the centres of the view's cells lie in the frame, float32 `[batch, grid]`."""
    pixels = _centers(grid)
    if axis == 1:
        pixels = _mirror(pixels, view, grid)
    return (pixels + view[:, 2 + axis, tf.newaxis]) / view[:, axis, tf.newaxis]


def _resample(
    attention: tf.Tensor, source_valid: tf.Tensor, target_valid: tf.Tensor, pixels: list[tf.Tensor], shrink: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Samples `attention` at `pixels` (source coordinates of the target's cell centres, `[batch, grid]` per axis).

    One tent-shaped weight matrix per axis, widened where the source is finer than the target (`shrink` > 1).
    """
    grid = attention.shape[1]
    cells = tf.range(grid, dtype=tf.float32)
    weights = []
    for axis in (0, 1):
        place = pixels[axis] / STRIDE - 0.5
        # A centre in the outer half of the border cells takes the border cell's value.
        inside = (place >= -0.5) & (place <= grid - 0.5)
        place = tf.clip_by_value(place, 0.0, grid - 1.0)
        width = tf.maximum(shrink[:, axis, tf.newaxis, tf.newaxis], 1.0)
        tent = tf.nn.relu(1.0 - tf.abs(place[:, :, tf.newaxis] - cells) / width)
        tent /= tf.reduce_sum(tent, axis=2, keepdims=True)
        weights.append(tf.where(inside[:, :, tf.newaxis], tent, 0.0))
    valid = tf.cast(source_valid, tf.float32)
    weight = tf.einsum("bij,bjk,blk->bil", weights[0], valid, weights[1])
    total = tf.einsum("bij,bjkc,blk->bilc", weights[0], attention * valid[..., tf.newaxis], weights[1])
    seen = target_valid & (weight >= 0.5)
    resampled = tf.math.divide_no_nan(total, weight[..., tf.newaxis])
    return tf.where(seen[..., tf.newaxis], resampled, 0.0), seen
