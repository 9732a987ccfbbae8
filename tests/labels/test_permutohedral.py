"""The lattice filter against sums over all pairs of points, and cases that have exact answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.labels.permutohedral import PermutohedralLattice


def gaussian_sums(features, values):
    squared = ((features[:, np.newaxis].astype(np.float64) - features) ** 2).sum(axis=-1)
    return np.exp(-0.5 * squared) @ values


def filtered(features, values):
    return PermutohedralLattice(features).filter(values.T).T


def example(seed, num_points, dimension, span):
    generator = np.random.default_rng(seed)
    features = generator.uniform(0, span, (num_points, dimension)).astype(np.float32)
    values = np.stack([np.ones(num_points), np.sin(features[:, 0]), generator.random(num_points)], axis=1)
    return features, values.astype(np.float32)


@pytest.mark.parametrize(("dimension", "num_points", "span"), [(1, 600, 6), (2, 3000, 5), (3, 3000, 4), (5, 3000, 3)])
def test_is_nearly_a_gaussian_for_dense_points(dimension, num_points, span):
    features, values = example(0, num_points, dimension, span)
    expected, found = gaussian_sums(features, values), filtered(features, values)
    # The sums themselves, in units of their greatest: within 5 % on average.
    assert np.abs(found - expected).mean() < 0.05 * np.abs(expected).max()
    # Weighted means, whose range is about 1.
    difference = np.abs(found[:, 1:] / found[:, :1] - expected[:, 1:] / expected[:, :1])
    assert difference.mean() < 0.03 and difference.max() < 0.2


def test_a_lone_point_on_a_vertex():
    # All of it goes to one vertex; 1 stays there, and 1/8 comes back from around the triangle of the point's simplex.
    gain = math.sqrt(3) * (4 * math.pi / 3) / 8 * (1 + 1 / 8)
    found = filtered(np.zeros((1, 2), np.float32), np.float32([[2, -3]]))
    np.testing.assert_allclose(found, [[2 * gain, -3 * gain]], rtol=1e-6)


def test_equal_points_share_their_sum():
    features = np.repeat(np.float32([[0.3, 1.7, -0.4]]), 5, axis=0)
    values = np.float32([[1], [2], [3], [4], [5]])
    once = filtered(features[:1], np.float32([[1]]))[0, 0]
    np.testing.assert_allclose(filtered(features, values), np.full((5, 1), 15 * once), rtol=1e-5)


def test_far_points_do_not_mix():
    features, values = example(1, 50, 3, 2)
    both = filtered(np.concatenate([features, features + 40]), np.concatenate([values, 0 * values]))
    np.testing.assert_array_equal(both[50:], 0)
    np.testing.assert_allclose(both[:50], filtered(features, values), rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 10_000), dimension=st.integers(1, 5), span=st.sampled_from([0.1, 3.0, 50.0]))
@settings(max_examples=30, deadline=None)
def test_order_sums_and_scale(seed, dimension, span):
    features, values = example(seed, 40, dimension, span)
    found = filtered(features, values)
    assert found[:, 0].min() > 0  # every point gets something back
    order = np.random.default_rng(seed).permutation(40)
    np.testing.assert_allclose(filtered(features[order], values[order]), found[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(filtered(features, -2 * values), -2 * found, rtol=1e-4, atol=1e-5)
    ones = np.ones((40, 1), np.float32)
    np.testing.assert_allclose(filtered(features, ones)[:, 0], found[:, 0], rtol=1e-4, atol=1e-5)


def test_the_span_that_keys_hold():
    features = np.random.default_rng(3).uniform(0, 1, (2000, 5)).astype(np.float32)
    features[:32] = np.stack(np.meshgrid(*[[0, 1]] * 5), axis=-1).reshape(32, 5)  # the corners
    values = np.ones((2000, 1), np.float32)
    # So far apart, every point is alone and gets no more than its own value back. Keys of 2500 leave no room for
    # positions in the same number.
    for span in (250, 2500):
        assert filtered(span * features, values).max() <= filtered(features[:1], values[:1])[0, 0] + 1e-5
    with pytest.raises(ValueError, match="span too many standard deviations"):
        filtered(25_000 * features, values)
