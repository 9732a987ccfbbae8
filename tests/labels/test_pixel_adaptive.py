"""Pixel-adaptive refinement against a loop over pixels, and what follows from its weights being a softmax."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.labels.pixel_adaptive import pixel_adaptive_refinement


def reference(scores, images, dilations, num_iterations):
    """The definition, pixel by pixel."""
    refined = np.empty_like(scores, dtype=np.float64)
    for index, (maps, image) in enumerate(zip(scores.astype(np.float64), images.astype(np.float64), strict=True)):
        height, width = image.shape[:2]
        pixels = [(row, column) for row in range(height) for column in range(width)]
        places, weights = {}, {}
        for row, column in pixels:
            cells = [
                (min(max(row + i * d, 0), height - 1), min(max(column + j * d, 0), width - 1), (i, j) == (0, 0))
                for d in dilations
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
            std = np.std([image[r, c] for r, c, _ in cells], axis=0, ddof=1)
            places[row, column] = [(r, c) for r, c, is_center in cells if not is_center]
            logits = [
                -np.mean(np.abs(image[place] - image[row, column]) / (0.1 * std + 1e-8))
                for place in places[row, column]
            ]
            exponentials = np.exp(np.array(logits) - max(logits))
            weights[row, column] = exponentials / exponentials.sum()
        for _ in range(num_iterations):
            maps = np.array(
                [sum(w * maps[place] for w, place in zip(weights[p], places[p], strict=True)) for p in pixels]
            ).reshape(maps.shape)
        refined[index] = maps
    return refined


def example(seed, shape=(2, 7, 6), channels=3):
    generator = np.random.default_rng(seed)
    return generator.random((*shape, channels), np.float32), generator.integers(0, 256, (*shape, 3), np.uint8)


@pytest.mark.parametrize(
    ("shape", "dilations", "num_iterations"),
    [((2, 7, 6), (1, 2), 3), ((1, 5, 9), (1, 2, 4, 8, 12, 24), 2), ((1, 1, 1), (3,), 1), ((1, 4, 1), (1,), 0)],
)
def test_equals_the_loop(shape, dilations, num_iterations):
    scores, images = example(0, shape)
    if images.shape[1] > 4:
        images[:, :3, :3] = 90  # a flat place, where the deviation is 0 and all neighbours count alike
    found = pixel_adaptive_refinement(scores, images, dilations=dilations, num_iterations=num_iterations)
    np.testing.assert_allclose(found, reference(scores, images, dilations, num_iterations), atol=1e-5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_constants_stay_and_nothing_leaves_the_range(seed):
    scores, images = example(seed)
    scores[..., 0] = 0.7
    found = pixel_adaptive_refinement(scores, images, dilations=(1, 3)).numpy()
    np.testing.assert_allclose(found[..., 0], 0.7, rtol=1e-5)
    assert np.all(found.min(axis=(1, 2)) >= scores.min(axis=(1, 2)) - 1e-5)
    assert np.all(found.max(axis=(1, 2)) <= scores.max(axis=(1, 2)) + 1e-5)


def test_images_and_channels_do_not_mix_and_color_scale_cancels():
    scores, images = example(1)
    both = pixel_adaptive_refinement(scores, images).numpy()
    alone = pixel_adaptive_refinement(scores[1:, ..., 2:], images[1:].astype(np.float32) / 255)
    np.testing.assert_allclose(alone, both[1:, ..., 2:], atol=1e-4)


def test_a_sharp_edge_keeps_scores_apart_and_a_flat_image_does_not():
    image = np.full((1, 20, 20, 3), 40, np.uint8)
    scores = np.zeros((1, 20, 20, 1), np.float32)
    scores[:, :, 10:] = 1
    mixed = pixel_adaptive_refinement(scores, image, dilations=(1, 2)).numpy()
    assert mixed[0, 10, 9, 0] > 0.3
    image[:, :, 10:] = 220
    apart = pixel_adaptive_refinement(scores, image, dilations=(1, 2)).numpy()
    np.testing.assert_allclose(apart, scores, atol=1e-3)
    # Scores that stop short of the edge fill the object.
    scores[:, :, 10:12] = 0
    filled = pixel_adaptive_refinement(scores, image, dilations=(1, 2)).numpy()
    assert filled[0, 10, 10, 0] > 0.3 and filled[0, 10, 9, 0] < 1e-3


def test_in_a_graph_with_unknown_sizes():
    in_graph = tf.function(
        pixel_adaptive_refinement,
        input_signature=[tf.TensorSpec([None] * 4), tf.TensorSpec([None, None, None, 3], tf.uint8)],
    )
    for shape in ((1, 1, 1), (2, 9, 30)):
        scores, images = example(2, shape)
        np.testing.assert_allclose(in_graph(scores, images), pixel_adaptive_refinement(scores, images), atol=1e-5)
