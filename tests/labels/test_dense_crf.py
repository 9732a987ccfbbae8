"""The CRF against mean field inference with sums over all pairs of pixels, and against the reference library."""

import cv2
import numpy as np
import pytest

from oaa_tf.labels.dense_crf import LEAST_PROBABILITY, dense_crf

DEFAULTS = {
    "num_iterations": 10,
    "bilateral_weight": 3,
    "bilateral_xy_std": 67,
    "bilateral_rgb_std": 4,
    "position_weight": 1,
    "position_xy_std": 3,
}


def example(seed, *, size=(24, 32), num_labels=4):
    """An image of noisy blocks, and smooth probabilities that do not know them."""
    generator = np.random.default_rng(seed)
    height, width = size
    colors = cv2.resize(generator.uniform(0, 255, (4, 5, 3)), (width, height), interpolation=cv2.INTER_NEAREST)
    image = np.clip(colors + generator.normal(0, 4, colors.shape), 0, 255).astype(np.uint8)
    logits = cv2.resize(generator.normal(0, 2, (6, 7, num_labels)), (width, height))
    return softmax(np.moveaxis(logits, -1, 0)).astype(np.float32), image


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


def reference(probabilities, image, **changes):
    """Mean field inference with both kernels as whole matrices."""
    options = DEFAULTS | changes
    num_labels, height, width = probabilities.shape

    def kernel(features):
        squared = ((features[:, np.newaxis] - features) ** 2).sum(axis=-1)
        values = np.exp(-0.5 * squared)
        factor = 1 / np.sqrt(values.sum(axis=1))
        return factor[:, np.newaxis] * values * factor

    positions = np.stack(np.mgrid[:height, :width], axis=-1).reshape(-1, 2)
    colors = image.reshape(-1, 3) / options["bilateral_rgb_std"]
    messages = options["bilateral_weight"] * kernel(np.hstack([positions / options["bilateral_xy_std"], colors]))
    messages += options["position_weight"] * kernel(positions / options["position_xy_std"])
    unary = np.log(np.clip(probabilities.reshape(num_labels, -1), LEAST_PROBABILITY, 1))
    marginals = softmax(unary)
    for _ in range(options["num_iterations"]):
        marginals = softmax(unary + marginals @ messages)
    return marginals.reshape(probabilities.shape)


def agreement(one, other):
    return np.mean(one.argmax(axis=0) == other.argmax(axis=0))


@pytest.mark.parametrize("changes", [{}, {"bilateral_xy_std": 20, "bilateral_rgb_std": 20}, {"num_iterations": 1}])
def test_is_nearly_exact_mean_field_inference(changes):
    shares = []
    for seed in range(5):
        probabilities, image = example(seed)
        expected = reference(probabilities, image, **changes)
        found = dense_crf(probabilities, image, **changes)
        # The image has a say; what is left as a difference is the lattice's approximation.
        assert agreement(expected, probabilities) < 0.91
        assert np.abs(found - expected).mean() < 0.02
        shares.append(agreement(found, expected))
    # A label that is nearly as likely as another can go over whole blocks.
    assert min(shares) > 0.95 and np.mean(shares) > 0.98


@pytest.mark.parametrize("std", [0.7, 3, 10])
def test_the_position_kernel_is_exact_but_for_its_ends(std):
    probabilities, image = example(5, size=(9, 30))
    changes = {"bilateral_weight": 0, "position_weight": 2, "position_xy_std": std}
    found = dense_crf(probabilities, image, **changes)
    np.testing.assert_allclose(found, reference(probabilities, image, **changes), atol=2e-3)


def test_without_messages_probabilities_are_normalised_only():
    probabilities, image = example(1)
    probabilities[:, 3, 4] = [0, 1, 0, 0]
    for changes in ({"num_iterations": 0}, {"bilateral_weight": 0, "position_weight": 0}):
        found = dense_crf(0.5 * probabilities, image, **changes)
        np.testing.assert_allclose(found, probabilities, atol=1e-4)


def test_marginals_are_probabilities_and_labels_are_alike():
    probabilities, image = example(2, num_labels=5)
    found = dense_crf(probabilities, image)
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    order = [3, 0, 4, 1, 2]
    np.testing.assert_allclose(dense_crf(probabilities[order], image), found[order], atol=1e-3)
    np.testing.assert_allclose(dense_crf(0.1 * probabilities, image), found, atol=1e-2)


def test_a_blurred_boundary_moves_to_the_edge():
    image = np.full((40, 40, 3), 60, np.uint8)
    image[:, 23:] = (200, 180, 60)
    right = np.tile(np.clip((np.arange(40) - 20) / 20 + 0.5, 0.02, 0.98), (40, 1))
    probabilities = np.stack([1 - right, right]).astype(np.float32)
    assert (probabilities.argmax(axis=0)[0] == (np.arange(40) > 20)).all()
    labels = dense_crf(probabilities, image).argmax(axis=0)
    np.testing.assert_array_equal(labels, np.tile(np.arange(40) >= 23, (40, 1)))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (24, 32)])
def test_sizes_and_types(size):
    probabilities, image = example(3, size=size)
    before = probabilities.copy()
    found = dense_crf(probabilities, image)
    assert found.dtype == np.float32 and found.shape == probabilities.shape
    np.testing.assert_array_equal(found, dense_crf(probabilities, image.astype(np.float32)))
    np.testing.assert_array_equal(probabilities, before)


def test_equals_the_reference_library():
    library = pytest.importorskip("pydensecrf.densecrf", reason="needs pydensecrf2, which is built from source")
    probabilities, image = example(4, size=(60, 80), num_labels=5)
    unary = -np.log(np.clip(probabilities, LEAST_PROBABILITY, 1)).reshape(5, -1)

    def by_library(bilateral_weight, position_weight):
        crf = library.DenseCRF2D(80, 60, 5)
        crf.setUnaryEnergy(np.ascontiguousarray(unary))
        if bilateral_weight:
            crf.addPairwiseBilateral(sxy=67, srgb=4, rgbim=image, compat=bilateral_weight)
        if position_weight:
            crf.addPairwiseGaussian(sxy=3, compat=position_weight)
        return np.asarray(crf.inference(10)).reshape(probabilities.shape)

    # The same lattice: equal up to rounding.
    np.testing.assert_allclose(dense_crf(probabilities, image, position_weight=0), by_library(3, 0), atol=2e-3)
    # The library's position kernel is on a lattice too, ours is exact.
    expected, found = by_library(3, 1), dense_crf(probabilities, image)
    assert np.abs(found - expected).mean() < 1e-3
    assert agreement(found, expected) > 0.995
