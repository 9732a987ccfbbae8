"""Both methods on the maps of one image."""

import cv2
import numpy as np
import pytest

from oaa_tf.labels.dense_crf import dense_crf
from oaa_tf.labels.pixel_adaptive import pixel_adaptive_refinement
from oaa_tf.labels.refined_attention import METHODS, refined_attention


def example(height=20, width=30, num_maps=2):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (height, width, 3), np.uint8)
    attention = generator.random((num_maps, height, width), np.float32)
    return attention, 1 - attention.max(axis=0), image


def test_pamr_refines_every_map():
    attention, background, image = example()
    found = refined_attention("pamr", attention, background, image)
    for one, expected in zip(found, attention, strict=True):
        refined = pixel_adaptive_refinement(expected[np.newaxis, ..., np.newaxis], image[np.newaxis])
        np.testing.assert_allclose(one, refined[0, ..., 0], atol=1e-5)


def test_crf_starts_from_the_scores_in_proportion():
    attention, background, image = example()
    scores = np.stack([background, *attention])
    expected = dense_crf(scores / scores.sum(axis=0), image)
    found = refined_attention("crf", attention, background, image)
    np.testing.assert_allclose(found, expected[1:], atol=1e-3)


def test_the_crf_sees_a_large_image_as_a_small_one():
    attention, background, image = example()
    large = [cv2.resize(each, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST) for each in (*attention, background)]
    large_image = cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    found = refined_attention("crf", np.stack(large[:-1]), large[-1], large_image, crf_side=30)
    scores = np.stack([background, *attention])
    # Distances are those of the large image.
    expected = dense_crf(scores, image, bilateral_xy_std=67 / 4, position_xy_std=3 / 4)[1:]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, cv2.resize(other, (120, 80), interpolation=cv2.INTER_LINEAR), atol=1e-4)
    unlimited = refined_attention("crf", attention, background, image, crf_side=30)
    np.testing.assert_array_equal(unlimited, refined_attention("crf", attention, background, image))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (33, 20, 3)])
def test_ranges_and_sizes(method, shape):
    height, width, num_maps = shape
    attention, background, image = example(height, width, num_maps)
    # Where no score says anything, there is still a result.
    attention[:, 0, 0] = background[0, 0] = 0
    found = refined_attention(method, attention, background, image)
    assert found.shape == attention.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
