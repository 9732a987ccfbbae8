"""High-dimensional Gaussian filtering on the permutohedral lattice (Adams, Baek, Davis, Eurographics 2010)."""

import itertools
import math

import numpy as np


class PermutohedralLattice:
    """The lattice of a set of points, which filters any values at these points with a Gaussian.

    ```python
    lattice = PermutohedralLattice(features)  # float32 [num_points, d]
    blurred = lattice.filter(values)  # float32 [channels, num_points], approximately
    # blurred[:, i] = sum over j of exp(-0.5 * |features[i] - features[j]| ** 2) * values[:, j]
    ```

    Every point lies in a simplex of d + 1 lattice vertices. It distributes its values among them (splat), the vertices
    are blurred with (1/2, 1, 1/2) along each of the d + 1 axes of the lattice, and every point collects from its
    vertices (slice). Only vertices of simplices with points exist; values blurred onto others are lost, as in the
    reference library of dense CRFs, so points without near neighbours get too little. A filtered 1 has the same loss,
    so divide by it. With five features and dense points, weighted means are then off by 0.03 of the values' range on
    average.

    Vertices have int64 keys that are linear in their coordinates: a step along an axis adds a constant, and a binary
    search in the sorted keys finds neighbours.
    """

    def __init__(self, features: np.ndarray) -> None:
        """Builds the lattice.

        Args:
            features: float32 `[num_points, d]`, in units of the standard deviation of the Gaussian; at least one point.

        Raises:
            ValueError: The points span too many standard deviations for int64 keys; five features with a span of 250
                each still fit.
        """
        dimension = features.shape[1]
        num_axes = dimension + 1
        origin, rank, self._weights = _enclosing_simplices(_embedding(dimension).astype(np.float32) @ features.T)
        strides = _key_strides(origin)
        keys, ids = np.unique(_vertex_keys(origin, rank, strides), return_inverse=True)
        self._ids = ids.reshape(self._weights.shape)
        # One more vertex, the last, stands for all that do not exist.
        self._num_vertices = len(keys) + 1
        self._neighbours = [_neighbours(keys, step) for step in strides.sum() - num_axes * strides]
        # Makes the sum over dense points equal that of the Gaussian: (2 pi)^(d/2), times the density of the vertices,
        # divided by the sum of the weights of the blur.
        self._gain = (4 * math.pi / 3) ** (dimension / 2) * math.sqrt(num_axes) / 2**num_axes

    def filter(self, values: np.ndarray) -> np.ndarray:
        """Gaussian sums of values at the points of the lattice.

        Args:
            values: float32 `[channels, num_points]`.

        Returns:
            float32 `[channels, num_points]`.
        """
        return np.stack([self._filtered(channel) for channel in values])

    def _filtered(self, values: np.ndarray) -> np.ndarray:
        splat = np.bincount(self._ids.ravel(), (self._weights * values).ravel(), self._num_vertices)
        vertices = splat.astype(np.float32)
        for above, below in self._neighbours:
            around = vertices.take(above)
            around += vertices.take(below)
            around *= 0.5
            vertices += around
        return self._gain * np.einsum("vp,vp->p", self._weights, vertices.take(self._ids))


def _embedding(dimension: int) -> np.ndarray:
    """Matrix `[dimension + 1, dimension]` from features to the plane of points whose coordinates sum to 0.

    Its columns are orthogonal and of equal length. The length is such that the three steps of the filter together have
    the variance 1: blurring contributes 1/2 a step along each axis, and splatting and slicing the rest.
    """
    matrix = np.triu(np.ones((dimension + 1, dimension)))
    index = np.arange(1, dimension + 1)
    matrix[index, index - 1] = -index
    return matrix / np.sqrt(index * (index + 1)) * math.sqrt(2 / 3) * (dimension + 1)


def _enclosing_simplices(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The simplex of every point.

    Args:
        points: float32 `[d + 1, num_points]`, whose coordinates sum to 0.

    Returns:
        The nearest lattice point whose coordinates are multiples of d + 1, int64 `[d + 1, num_points]`; the rank of the
        distance to it along each coordinate, 0 for the greatest, int64 `[d + 1, num_points]`; and the barycentric
        weights of the vertices, float32 `[d + 1, num_points]`.
    """
    num_axes = len(points)
    multiple = np.rint(points / num_axes)
    offset = points - multiple * num_axes
    # Rounding each coordinate separately can leave the plane; the coordinates that were rounded furthest go back.
    rank = np.tile(multiple.sum(axis=0).astype(np.int64), (num_axes, 1))
    for one, other in itertools.combinations(range(num_axes), 2):
        # Of equal distances, the one along the first coordinate counts as greater.
        is_greater = offset[other] > offset[one]
        rank[one] += is_greater
        rank[other] += ~is_greater
    correction = (rank < 0).astype(np.int64) - (rank >= num_axes)
    rank += correction * num_axes
    multiple += correction

    sorted_offset = np.empty_like(points)
    np.put_along_axis(sorted_offset, rank, (points - multiple * num_axes) / num_axes, axis=0)
    weights = np.empty_like(points)
    weights[0] = 1 - (sorted_offset[0] - sorted_offset[-1])
    weights[1:] = (sorted_offset[:-1] - sorted_offset[1:])[::-1]
    # Rounding errors must not make weights negative.
    return multiple.astype(np.int64) * num_axes, rank, np.maximum(weights, 0)


def _key_strides(origin: np.ndarray) -> np.ndarray:
    """Factors of the coordinates in a key, int64 `[d + 1]`; 0 for the last one, which follows from the others."""
    num_axes = len(origin)
    # A vertex is up to d away from the origin of its simplex, and a neighbour d further.
    span = np.ptp(origin, axis=1)[:-1] + 4 * num_axes
    if np.log2(span).sum() >= 62:
        raise ValueError("the features span too many standard deviations for 64-bit keys")
    return np.array([1, *span, 0]).cumprod()[[*range(num_axes - 1), num_axes]]


def _vertex_keys(origin: np.ndarray, rank: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Keys of the vertices of the simplex of each point, int64 `[d + 1, num_points]`.

    Vertex k adds k to the coordinates of the origin, and subtracts d + 1 from those with the k last ranks.
    """
    num_axes = len(origin)
    by_rank = np.empty_like(rank)
    np.put_along_axis(by_rank, rank, np.broadcast_to(strides[:, np.newaxis], rank.shape), axis=0)
    # Counted from the smallest coordinates: keys depend on the span alone, and do not overflow if it is small.
    keys = np.empty_like(rank)
    keys[0] = strides @ (origin - origin.min(axis=1, keepdims=True))
    keys[1:] = strides.sum() - num_axes * by_rank[:0:-1]
    return keys.cumsum(axis=0)


def _neighbours(keys: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `keys + step` and of `keys - step` in the sorted keys, int64 `[len(keys) + 1]` each.

    `len(keys)` stands for keys that do not exist, and comes once more at the end.
    """
    num_keys = len(keys)
    above, below = np.full((2, num_keys + 1), num_keys)
    index = np.searchsorted(keys, keys + step)
    has_above = np.flatnonzero(keys[np.minimum(index, num_keys - 1)] == keys + step)
    above[has_above] = index[has_above]
    below[above[has_above]] = has_above
    return above, below
