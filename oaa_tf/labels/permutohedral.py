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

    Vertices have int64 keys to which a step along an axis adds a constant; a binary search in the sorted keys finds
    neighbours.
    """

    def __init__(self, features: np.ndarray) -> None:
        """Builds the lattice.

        Args:
            features: float32 `[num_points, d]`, in units of the standard deviation of the Gaussian; at least one point.

        Raises:
            ValueError: The points span too many standard deviations for int64 keys; five features with a span of
                2,500 each still fit.
        """
        dimension = features.shape[1]
        num_axes = dimension + 1
        origin, rank, self._weights = _enclosing_simplices(_embedding(dimension).astype(np.float32) @ features.T)
        keys, steps = _vertex_keys(origin, rank)
        keys, self._ids = _unique(keys)
        # One more vertex, the last, stands for all that do not exist.
        self._num_vertices = len(keys) + 1
        self._neighbours = [_neighbours(keys, step) for step in steps]
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
        The nearest lattice point whose coordinates are multiples of d + 1, divided by d + 1, float32
        `[d + 1, num_points]`; the rank of the distance to it along each coordinate, 0 for the greatest, int8
        `[d + 1, num_points]`; and the barycentric weights of the vertices, float32 `[d + 1, num_points]`.
    """
    num_axes = len(points)
    multiple = np.rint(points / num_axes)
    offset = points - multiple * num_axes
    # Rounding each coordinate separately can leave the plane; the coordinates that were rounded furthest go back.
    rank = np.tile(multiple.sum(axis=0).astype(np.int8), (num_axes, 1))
    for one, other in itertools.combinations(range(num_axes), 2):
        # Of equal distances, the one along the first coordinate counts as greater.
        is_greater = offset[other] > offset[one]
        rank[one] += is_greater
        rank[other] += ~is_greater
    correction = (rank < 0).astype(np.int8) - (rank >= num_axes)
    rank += correction * np.int8(num_axes)
    multiple += correction

    offset = _descending((points - multiple * num_axes) / num_axes)
    weights = np.empty_like(points)
    weights[0] = 1 - (offset[0] - offset[-1])
    weights[1:] = (offset[:-1] - offset[1:])[::-1]
    # Rounding errors must not make weights negative.
    return multiple, rank, np.maximum(weights, 0, out=weights)


def _descending(rows: np.ndarray) -> np.ndarray:
    """Sorts every column in place, the greatest first; swaps of a few whole rows are faster than `np.sort`."""
    for last in range(len(rows) - 1, 0, -1):
        for row in range(last):
            less = np.minimum(rows[row], rows[row + 1])
            np.maximum(rows[row], rows[row + 1], out=rows[row])
            rows[row + 1] = less
    return rows


def _vertex_keys(origin: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the vertices of the simplex of each point, and of steps between vertices.

    A step along axis c adds 1 to all coordinates and subtracts d + 1 from coordinate c. Every vertex is a sum of such
    steps, n_c of them along each axis but the last, and its key is a number whose digits are these n_c. The steps along
    all axes together lead back, so the one along the last axis subtracts 1 from each n_c.

    Returns:
        int64 `[d + 1, num_points]`, not negative: of the origin, and after the steps along the axes with the last rank,
        the last two ranks, and so on; and int64 `[d + 1]`, what a step along each axis adds to a key.
    """
    num_axes = len(origin)
    counts = (origin[-1] - origin[:-1]).astype(np.int64)
    # From 2: a vertex can be one below its origin, and its neighbour one further.
    counts -= counts.min(axis=1, keepdims=True) - 2
    span = counts.max(axis=1) + 3
    if np.log2(span).sum() >= 62:
        raise ValueError("the features span too many standard deviations for 64-bit keys")
    steps = np.array([1, *span[:-1]]).cumprod()
    keys = np.empty(rank.shape, np.int64)
    keys[0] = steps @ counts
    steps = np.append(steps, -steps.sum())
    for vertex in range(1, num_axes):
        keys[vertex] = keys[vertex - 1]
        for axis, step in enumerate(steps):
            keys[vertex] += step * (rank[axis] == num_axes - vertex)
    return keys, steps


def _unique(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted keys without repetitions, and the position of each key in them, int64 of the shape of `keys`."""
    position_bits = keys.size.bit_length()
    if int(keys.max()).bit_length() + position_bits > 63:
        unique, inverse = np.unique(keys, return_inverse=True)
        return unique, inverse.reshape(keys.shape)
    # Keys that carry their positions: sorting such numbers takes a fraction of the time that `np.unique` takes.
    carriers = keys.ravel() << position_bits
    carriers += np.arange(keys.size)
    carriers.sort()
    positions = carriers & ((1 << position_bits) - 1)
    carriers >>= position_bits
    is_first = np.append(True, carriers[1:] != carriers[:-1])
    inverse = np.empty(keys.size, np.int64)
    inverse[positions] = is_first.cumsum() - 1
    return carriers[is_first], inverse.reshape(keys.shape)


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
