"""Distances of neighbours and random walks, against dense matrices in float64."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.attention.affinity import NEIGHBOURS, RADIUS, at_neighbours, distances, random_walk


def reference_walk(attention, cells, valid, power: float, num_steps: int) -> np.ndarray:
    """T ** num_steps times the attention, `[height, width]`, with the whole matrix of affinities of one image."""
    height, width = valid.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    affinity = np.zeros((height * width, height * width))
    for i, one in enumerate(places):
        for j, other in enumerate(places):
            near = (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 < RADIUS**2
            if near and valid[one] and valid[other]:
                affinity[i, j] = np.exp(-np.mean(np.abs(cells[one] - cells[other]))) ** power
    total = affinity.sum(axis=1, keepdims=True)
    transition = np.divide(affinity, total, out=np.zeros_like(affinity), where=total > 0)
    flat = np.linalg.matrix_power(transition, num_steps) @ attention.ravel()
    return np.where(valid, flat.reshape(attention.shape), 0)


def test_every_pair_of_near_cells_is_one_of_the_neighbours_once() -> None:
    both = [*NEIGHBOURS, *((-rows, -columns) for rows, columns in NEIGHBOURS)]
    assert sorted(both) == sorted(
        (rows, columns) for rows in range(-9, 10) for columns in range(-9, 10) if 0 < rows**2 + columns**2 < RADIUS**2
    )


def test_values_at_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=(2, 6, 7)).astype(np.float32)
    for (rows, columns), found in zip(NEIGHBOURS, at_neighbours(tf.constant(values), -1), strict=True):
        for place in np.ndindex(values.shape):
            image, row, column = place[0], place[1] + rows, place[2] + columns
            inside = 0 <= row < 6 and 0 <= column < 7
            assert found[place] == (values[image, row, column] if inside else -1)


@settings(deadline=None, max_examples=20)
@given(
    height=st.integers(1, 8),
    width=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
    power=st.floats(0, 16),
    num_steps=st.integers(0, 20),
)
def test_a_walk_is_a_power_of_the_transition_matrix(height, width, seed, power, num_steps) -> None:
    generator = np.random.default_rng(seed)
    cells = generator.normal(size=(2, height, width, 3)).astype(np.float32)
    valid = generator.random((2, height, width)) < 0.8
    attention = (generator.random((2, height, width)) * valid).astype(np.float32)
    found = random_walk(tf.constant(attention), distances(tf.constant(cells)), valid, power=power, num_steps=num_steps)
    for image in range(2):
        expected = reference_walk(attention[image], cells[image], valid[image], power, num_steps)
        np.testing.assert_allclose(found[image], expected, rtol=1e-4, atol=1e-6)
    # Means of attention are between its extremes.
    assert np.all(found >= 0) and np.all(found <= attention.max(initial=0) + 1e-6)


def test_a_walk_fills_an_object_and_stops_at_its_edge() -> None:
    cells = np.zeros((1, 12, 12, 1), np.float32)
    cells[:, 3:9, 3:9] = 5
    attention = np.zeros((1, 12, 12), np.float32)
    attention[..., 4, 4] = 1
    found = random_walk(
        tf.constant(attention), distances(tf.constant(cells)), np.ones((1, 12, 12), bool), power=8, num_steps=64
    ).numpy()[0]
    inside = cells[0, ..., 0] > 0
    assert found[inside].min() > 0.9 * found[inside].max() > 0
    assert found[~inside].max() < 1e-6


def test_canvases_of_all_shapes_share_a_graph() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None] * 4), tf.TensorSpec([None] * 3, tf.bool)])
    def walk(cells, valid):
        return random_walk(tf.cast(valid, tf.float32), distances(cells), valid, power=1, num_steps=3)

    for height, width in ((4, 6), (9, 3)):
        # Attention that is the same everywhere stays as it is.
        shape = (1, height, width)
        found = walk(tf.random.normal([*shape, 2]), tf.ones(shape, tf.bool))
        np.testing.assert_allclose(found, np.ones(shape), rtol=1e-5)
