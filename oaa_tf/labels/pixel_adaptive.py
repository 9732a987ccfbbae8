"""Pixel-adaptive mask refinement (Araslanov, Roth: Single-stage semantic segmentation from image labels, CVPR 2020)."""

from collections.abc import Iterator

import tensorflow as tf

_NEIGHBOURS = tuple((row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0))


def pixel_adaptive_refinement(
    scores: tf.Tensor,
    images: tf.Tensor,
    *,
    dilations: tuple[int, ...] = (1, 2, 4, 8, 12, 24),
    num_iterations: int = 10,
) -> tf.Tensor:
    """Repeatedly replaces the scores of each pixel by a weighted mean of the scores of its neighbours (PAMR).

    The neighbours are the eight around the pixel at every dilation; beyond the border, the nearest pixel of the image
    counts. Their weights are a softmax over all neighbours of

        -mean over the colors of |I(neighbour) - I(pixel)| / (0.1 * standard deviation).

    The standard deviation of a color is over the neighbours, and the pixel itself once for every dilation. The factor
    0.1 is from the authors' code. Every result is a convex combination of scores.

    Args:
        scores: float32 `[batch, height, width, channels]`.
        images: uint8 or float32 RGB `[batch, height, width, 3]`; the scale of the colors cancels out.
        dilations: Distances of the neighbours in pixels, each at least 1.
        num_iterations: Number of iterations.

    Returns:
        float32 `[batch, height, width, channels]`.
    """
    weights = _affinities(tf.transpose(tf.cast(images, tf.float32), [0, 3, 1, 2]), dilations)
    # Channels before rows and columns: all channels have the same weights, and rows are contiguous in memory.
    maps = tf.transpose(scores, [0, 3, 1, 2])

    def iterate(index, maps):
        refined = tf.zeros_like(maps)
        for weight, neighbour in zip(weights, _neighbours(maps, dilations), strict=True):
            refined += weight * neighbour
        return index + 1, tf.ensure_shape(refined, maps.shape)

    _, maps = tf.while_loop(
        lambda index, _: index < num_iterations, iterate, (tf.constant(0), maps), parallel_iterations=1
    )
    return tf.transpose(maps, [0, 2, 3, 1])


def _affinities(images: tf.Tensor, dilations: tuple[int, ...]) -> list[tf.Tensor]:
    """Weights of all neighbours, float32 `[batch, 1, height, width]` each; their sum is 1."""
    num_cells = len(dilations) * (len(_NEIGHBOURS) + 1)
    mean = (tf.add_n(list(_neighbours(images, dilations))) + len(dilations) * images) / num_cells
    variance = len(dilations) * (images - mean) ** 2
    for neighbour in _neighbours(images, dilations):
        variance += (neighbour - mean) ** 2
    std = tf.sqrt(variance / (num_cells - 1))
    factor = 1 / (0.1 * std + 1e-8)
    logits = [
        -tf.reduce_mean(tf.abs(neighbour - images) * factor, axis=1, keepdims=True)
        for neighbour in _neighbours(images, dilations)
    ]
    return tf.split(tf.nn.softmax(tf.concat(logits, axis=1), axis=1), len(logits), axis=1)


def _neighbours(maps: tf.Tensor, dilations: tuple[int, ...]) -> Iterator[tf.Tensor]:
    """Shifted maps `[batch, channels, height, width]`, one for every neighbour at every dilation."""
    height, width = tf.shape(maps)[2], tf.shape(maps)[3]
    margin = max(dilations)
    padded = maps
    for axis, size in ((2, height), (3, width)):
        padded = tf.gather(padded, tf.clip_by_value(tf.range(-margin, size + margin), 0, size - 1), axis=axis)
    for dilation in dilations:
        for row, column in _NEIGHBOURS:
            top, left = margin + row * dilation, margin + column * dilation
            yield padded[:, :, top : top + height, left : left + width]
