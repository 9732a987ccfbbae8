"""High-dimensional Gaussian filtering on the permutohedral lattice (Adams, Baek, Davis, Eurographics 2010)."""

import math

import numpy as np
import tensorflow as tf


class PermutohedralLattice:
    """The lattice of a set of points, which filters any values at these points with a Gaussian.

    ```python
    lattice = PermutohedralLattice(features)  # float32 [num_points, d]
    blurred = lattice.filter(values)  # float32 [num_points, channels], approximately
    # blurred[i] = sum over j of exp(-0.5 * |features[i] - features[j]| ** 2) * values[j]
    ```

    Every point lies in a simplex of d + 1 lattice vertices. It distributes its values among them (splat), the vertices
    are blurred with (1/2, 1, 1/2) along each of the d + 1 axes of the lattice, and every point collects from its
    vertices (slice). Only vertices of simplices with points exist; values blurred onto others are lost, as in the
    reference library of dense CRFs, so points without near neighbours get too little. A filtered 1 has the same loss,
    so divide by it. With five features and dense points, weighted means are then off by 0.03 of the values' range on
    average.

    Vertices have int64 keys that are linear in their coordinates: a step along an axis adds a constant, and a binary
    search in the sorted keys finds neighbours. The class works in eager mode and inside `tf.function`.
    """

    def __init__(self, features: tf.Tensor) -> None:
        """Builds the lattice.

        Args:
            features: float32 `[num_points, d]`, in units of the standard deviation of the Gaussian; at least one point,
                and a static d.

        Raises:
            tf.errors.InvalidArgumentError: The points span too many standard deviations for int64 keys; five features
                with a span of 250 each still fit.
        """
        num_axes = features.shape[1] + 1
        points = tf.matmul(features, tf.constant(_embedding(num_axes - 1), tf.float32), transpose_b=True)
        origin, rank, weights = _enclosing_simplices(points)
        strides = _key_strides(origin)
        keys = _vertex_keys(origin, rank, strides)

        unique, ids = tf.unique(tf.reshape(keys, [-1]))
        order = tf.argsort(unique)
        unique = tf.gather(unique, order)
        ids = tf.gather(tf.math.invert_permutation(order), ids)
        num_points, num_vertices = tf.shape(points)[0], tf.size(unique)
        # By vertex of the simplex, then by point. One more vertex, the last, stands for all that do not exist.
        places = tf.stack([ids, tf.tile(tf.range(num_points), [num_axes])], axis=1)
        shape = tf.cast(tf.stack([num_vertices + 1, num_points]), tf.int64)
        self._vertices_from_points = tf.SparseTensor(tf.cast(places, tf.int64), tf.concat(weights, axis=0), shape)
        steps = tf.reduce_sum(strides) - num_axes * strides
        self._neighbours = [_neighbours(unique, step) for step in tf.unstack(steps, num_axes)]
        # Makes the sum over dense points equal that of the Gaussian: (2 pi)^(d/2), times the density of the vertices,
        # divided by the sum of the weights of the blur.
        dimension = num_axes - 1
        self._gain = (4 * math.pi / 3) ** (dimension / 2) * math.sqrt(num_axes) / 2**num_axes

    def filter(self, values: tf.Tensor) -> tf.Tensor:
        """Gaussian sums of values at the points of the lattice.

        Args:
            values: float32 `[num_points, channels]`.

        Returns:
            float32 `[num_points, channels]`.
        """
        vertices = tf.sparse.sparse_dense_matmul(self._vertices_from_points, values)
        for above, below in self._neighbours:
            vertices += 0.5 * (tf.gather(vertices, above) + tf.gather(vertices, below))
        return self._gain * tf.sparse.sparse_dense_matmul(self._vertices_from_points, vertices, adjoint_a=True)


def _embedding(dimension: int) -> np.ndarray:
    """Matrix `[dimension + 1, dimension]` from features to the plane of points whose coordinates sum to 0.

    Its columns are orthogonal and of equal length. The length is such that the three steps of the filter together have
    the variance 1: blurring contributes 1/2 a step along each axis, and splatting and slicing the rest.
    """
    matrix = np.triu(np.ones((dimension + 1, dimension)))
    index = np.arange(1, dimension + 1)
    matrix[index, index - 1] = -index
    return matrix / np.sqrt(index * (index + 1)) * math.sqrt(2 / 3) * (dimension + 1)


def _enclosing_simplices(points: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """The simplex of every point.

    Args:
        points: float32 `[num_points, d + 1]`, whose coordinates sum to 0.

    Returns:
        The nearest lattice point whose coordinates are multiples of d + 1, int64 `[num_points, d + 1]`; the rank of the
        distance to it along each coordinate, 0 for the greatest, int32 `[num_points, d + 1]`; and the barycentric
        weights of the vertices, d + 1 times float32 `[num_points]`.
    """
    num_axes = points.shape[1]
    multiple = tf.round(points / num_axes)
    offset = points - multiple * num_axes
    is_before = np.tril(np.ones((num_axes, num_axes), bool), -1)
    one, other = offset[:, :, tf.newaxis], offset[:, tf.newaxis, :]
    # Of equal distances, the one along the first coordinate counts as greater.
    is_greater = (other > one) | ((other == one) & is_before)
    rank = tf.reduce_sum(tf.cast(is_greater, tf.int32), axis=2)
    # Rounding each coordinate separately can leave the plane; the coordinates that were rounded furthest go back.
    excess = tf.cast(tf.reduce_sum(multiple, axis=1, keepdims=True), tf.int32)
    rank += excess
    correction = tf.cast(rank < 0, tf.int32) - tf.cast(rank >= num_axes, tf.int32)
    rank += correction * num_axes
    multiple += tf.cast(correction, tf.float32)
    origin = tf.cast(multiple, tf.int64) * num_axes

    # By rank; rounding errors of float32 must not make weights negative.
    sorted_offset = tf.sort((points - multiple * num_axes) / num_axes, direction="DESCENDING")
    descents = tf.unstack(sorted_offset[:, :-1] - sorted_offset[:, 1:], axis=1)
    first = 1 - (sorted_offset[:, 0] - sorted_offset[:, -1])
    return origin, rank, [tf.nn.relu(weight) for weight in (first, *reversed(descents))]


def _key_strides(origin: tf.Tensor) -> tf.Tensor:
    """Factors of the coordinates in a key, int64 `[d + 1]`; 0 for the last one, which follows from the others."""
    num_axes = origin.shape[1]
    # A vertex is up to d away from the origin of its simplex, and a neighbour d further.
    span = tf.reduce_max(origin, axis=0) - tf.reduce_min(origin, axis=0) + 4 * num_axes
    num_bits = tf.reduce_sum(tf.math.log(tf.cast(span[:-1], tf.float64))) / math.log(2)
    check = tf.debugging.assert_less(
        num_bits, tf.constant(62.0, tf.float64), "the features span too many standard deviations for 64-bit keys"
    )
    with tf.control_dependencies([check]):
        return tf.concat([tf.math.cumprod(span[:-1], exclusive=True), [0]], axis=0)


def _vertex_keys(origin: tf.Tensor, rank: tf.Tensor, strides: tf.Tensor) -> tf.Tensor:
    """Keys of the vertices of the simplex of each point, int64 `[d + 1, num_points]`.

    Vertex k adds k to the coordinates of the origin, and subtracts d + 1 from those with the k last ranks.
    """
    num_axes = origin.shape[1]
    # Counted from the smallest coordinates: keys depend on the span alone, and do not overflow if it is small.
    first = tf.reduce_sum((origin - tf.reduce_min(origin, axis=0)) * strides, axis=1)
    keys = []
    for k in range(num_axes):
        wrapped = tf.reduce_sum(tf.where(rank >= num_axes - k, strides, tf.zeros_like(strides)), axis=1)
        keys.append(first + k * tf.reduce_sum(strides) - num_axes * wrapped)
    return tf.stack(keys)


def _neighbours(keys: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Indices of `keys + step` and of `keys - step` in the sorted keys, int32 `[len(keys) + 1]` each.

    `len(keys)` stands for keys that do not exist, and comes once more at the end.
    """
    num_keys = tf.size(keys)
    index = tf.searchsorted(keys, keys + step)
    exists = tf.gather(keys, tf.minimum(index, num_keys - 1)) == keys + step
    above = tf.concat([tf.where(exists, index, num_keys), [num_keys]], axis=0)
    has_above = tf.where(exists)
    below = tf.tensor_scatter_nd_update(
        tf.fill([num_keys + 1], num_keys),
        tf.gather(above, has_above),
        tf.cast(has_above[:, 0], tf.int32),
    )
    return above, below
