"""Affinities of neighbouring cells, and attention that spreads along them by a random walk.

From Ahn and Kwak, Learning pixel-level semantic affinity with image-level supervision for weakly supervised semantic
segmentation, CVPR 2018.
"""

from collections.abc import Iterable, Iterator

import tensorflow as tf

RADIUS = 5
"""Cells are neighbours if their distance is below this number of cells."""

NEIGHBOURS = tuple(
    (rows, columns)
    for rows in range(RADIUS)
    for columns in range(1 - RADIUS, RADIUS)
    if (rows, columns) > (0, 0) and rows**2 + columns**2 < RADIUS**2
)
"""Rows and columns from a cell to its neighbours, one of every two that are opposite: each pair of cells comes once."""


def at_neighbours(values: tf.Tensor, fill: float = 0) -> Iterator[tf.Tensor]:
    """For each of `NEIGHBOURS`, the values that it has.

    Args:
        values: `[..., height, width]`.
        fill: The value beyond the border.

    Yields:
        `[..., height, width]`.
    """
    yield from _shifted(values, NEIGHBOURS, fill)


def distances(embeddings: tf.Tensor) -> tf.Tensor:
    """The distance d between the embeddings of a cell and each of its neighbours; their affinity is exp(-d) (Eq. 3).

    Args:
        embeddings: float32 `[batch, height, width, channels]`.

    Returns:
        float32 `[n, batch, height, width]`, for the n of `NEIGHBOURS`: the mean absolute difference.
    """
    values = tf.transpose(embeddings, [0, 3, 1, 2])
    return tf.stack([tf.reduce_mean(tf.abs(values - others), axis=1) for others in at_neighbours(values)])


def random_walk(
    attention: tf.Tensor, distances: tf.Tensor, valid: tf.Tensor, *, power: float, num_steps: int
) -> tf.Tensor:
    """Spreads attention to cells of high affinity.

    With the affinities a(i, j) between neighbours, and 1 between a cell and itself, every step replaces the attention
    of a cell i by its mean over the cells j with the weights a(i, j) ** power (Eq. 9 and 10).

    Args:
        attention: float32 `[batch, height, width]`, one map of each image.
        distances: float32 `[n, batch, height, width]`, from `distances`.
        valid: bool `[batch, height, width]`, the cells that show the image; nothing goes to others or comes from them.
        power: What affinities are raised to; a high power stops the walk at faint edges.
        num_steps: Number of steps.

    Returns:
        float32 `[batch, height, width]`, 0 in cells that are not valid.
    """
    is_valid = tf.cast(valid, tf.float32)
    affinity = tf.unstack(tf.exp(-power * distances))
    there = [one * is_valid * other for one, other in zip(affinity, at_neighbours(is_valid), strict=True)]
    opposite = [(-rows, -columns) for rows, columns in NEIGHBOURS]
    # The same pairs, seen from their other cell.
    back = [next(_shifted(one, [place], 0)) for one, place in zip(there, opposite, strict=True)]
    weights, places = [*there, *back], [*NEIGHBOURS, *opposite]
    total = tf.add_n([is_valid, *weights])

    def step(index: tf.Tensor, attention: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        moved = [one * other for one, other in zip(weights, _shifted(attention, places, 0), strict=True)]
        return index + 1, tf.math.divide_no_nan(tf.add_n([is_valid * attention, *moved]), total)

    start = tf.constant(0), attention
    _, walked = tf.while_loop(lambda index, _: index < num_steps, step, start, parallel_iterations=1)
    return walked


def _shifted(values: tf.Tensor, places: Iterable[tuple[int, int]], fill: float) -> Iterator[tf.Tensor]:
    """The values at some places beside each cell, `[..., height, width]`."""
    margins = [[0, 0]] * (values.shape.rank - 2) + [[RADIUS - 1] * 2] * 2
    padded, size = tf.pad(values, margins, constant_values=fill), tf.shape(values)
    for rows, columns in places:
        begin = [0] * (values.shape.rank - 2) + [RADIUS - 1 + rows, RADIUS - 1 + columns]
        yield tf.ensure_shape(tf.slice(padded, begin, size), values.shape)
