import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.attention.cam import class_activation_maps, class_scores, probability_maps


def example(seed: int, *, batch=2, grid=3, classes=2) -> tuple[np.ndarray, np.ndarray]:
    """Score maps, and valid cells with some padding at the lower and right border."""
    generator = np.random.default_rng(seed)
    score_maps = generator.normal(0, 3, (batch, grid, grid, classes)).astype(np.float32)
    valid = np.zeros((batch, grid, grid), bool)
    for image in range(batch):
        valid[image, : generator.integers(1, grid + 1), : generator.integers(1, grid + 1)] = True
    return score_maps, valid


def test_scores_by_hand() -> None:
    score_maps = np.array([[[1.0, -2.0], [4.0, 100.0]], [[-8.0, 5.0], [3.0, 100.0]]], np.float32)[np.newaxis, ..., :1]
    valid = np.array([[[True, True], [True, False]]])
    np.testing.assert_allclose(class_scores(score_maps, valid), [[(1 + 4 - 8) / 3]])


def test_activation_maps_by_hand() -> None:
    # The greatest score of class 0 lies in padding and does not count.
    score_maps = np.array([[[[2, -1], [8, -3]], [[-4, -1], [50, 9]]]], np.float32)
    valid = np.array([[[True, True], [True, False]]])
    expected = np.zeros((1, 2, 2, 2))
    expected[0, :, :, 0] = [[0.25, 1], [0, 0]]
    np.testing.assert_allclose(class_activation_maps(score_maps, valid), expected, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.5, 1e4))
def test_activation_maps_are_scale_free_and_in_range(seed: int, scale: float) -> None:
    score_maps, valid = example(seed)
    maps = class_activation_maps(score_maps, valid).numpy()
    assert maps.min() >= 0 and maps.max() <= 1
    assert np.all(maps[~valid] == 0)
    scaled = class_activation_maps(score_maps * np.float32(scale), valid).numpy()
    for image in range(len(maps)):
        for c in range(maps.shape[-1]):
            positive = np.maximum(score_maps[image, ..., c][valid[image]], 0).astype(np.float64)
            # The 1e-8 keeps a map without any positive score at 0.
            expected = positive / (positive.max() + 1e-8)
            np.testing.assert_allclose(maps[image, ..., c][valid[image]], expected, atol=1e-6)
            if positive.max() > 0.1:
                np.testing.assert_allclose(scaled[image, ..., c], maps[image, ..., c], atol=1e-6)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), filling=st.sampled_from([-1e6, 1e6, np.inf]))
def test_what_is_in_padding_does_not_matter_for_activation_maps(seed: int, filling: float) -> None:
    score_maps, valid = example(seed)
    other = np.where(valid[..., np.newaxis], score_maps, np.float32(filling))
    np.testing.assert_array_equal(class_activation_maps(other, valid), class_activation_maps(score_maps, valid))


def test_an_image_of_padding_only_scores_zero() -> None:
    score_maps, valid = example(0)
    valid[1] = False
    assert np.all(class_scores(score_maps, valid).numpy()[1] == 0)
    assert np.all(class_activation_maps(score_maps, valid).numpy()[1] == 0)


@pytest.mark.parametrize("function", [class_scores, class_activation_maps])
def test_in_a_graph_as_eagerly(function) -> None:
    score_maps, valid = example(1)
    np.testing.assert_allclose(tf.function(function)(score_maps, valid), function(score_maps, valid), rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_probability_maps_equal_the_reference(seed: int) -> None:
    score_maps, valid = example(seed)
    expected = np.where(valid[..., np.newaxis], 1 / (1 + np.exp(-score_maps.astype(np.float64))), 0)
    expected /= expected.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(probability_maps(score_maps, valid), expected, atol=1e-5)


def test_probability_maps_without_a_valid_cell_are_zero() -> None:
    score_maps, valid = np.ones((1, 2, 2, 1), np.float32), np.zeros((1, 2, 2), bool)
    np.testing.assert_array_equal(probability_maps(score_maps, valid), np.zeros((1, 2, 2, 1)))
