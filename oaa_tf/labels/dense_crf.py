"""The fully connected CRF (Kraehenbuehl, Koltun: Efficient inference in fully connected CRFs, NIPS 2011)."""

import math
from collections.abc import Callable

import cv2
import numpy as np

from oaa_tf.labels.permutohedral import PermutohedralLattice

LEAST_PROBABILITY = 1e-5
"""Lower probabilities are raised to this one, so that their logarithm is finite and the image can overrule them."""


def dense_crf(
    probabilities: np.ndarray,
    image: np.ndarray,
    *,
    num_iterations: int = 10,
    bilateral_weight: float = 3,
    bilateral_xy_std: float = 67,
    bilateral_rgb_std: float = 4,
    position_weight: float = 1,
    position_xy_std: float = 3,
    pixel: float = 1,
) -> np.ndarray:
    """Marginals of a CRF that connects every pixel with every other one, by mean field inference.

    Starting from the given probabilities p, every iteration sets

        Q_i(l) proportional to exp(log p_i(l) + sum over kernels k of weight_k * sum over j of K_k(i, j) * Q_j(l)),

    which is Potts compatibility. The bilateral kernel is a Gaussian of the distance in the image and in color, the
    position kernel a Gaussian of the distance in the image alone. Both are divided on both sides by the roots of their
    row sums, and include the pixel itself, like `NORMALIZE_SYMMETRIC` of the reference library.
    `PermutohedralLattice` approximates the bilateral kernel; the position kernel is a convolution up to four standard
    deviations.

    Args:
        probabilities: float32 `[labels, height, width]`, not negative; their sum may differ from 1.
        image: uint8 or float32 RGB `[height, width, 3]` in [0, 255].
        num_iterations: Number of mean field iterations.
        bilateral_weight: Weight of the bilateral kernel.
        bilateral_xy_std: Standard deviation of the bilateral kernel in pixels.
        bilateral_rgb_std: Standard deviation of the bilateral kernel in color.
        position_weight: Weight of the position kernel.
        position_xy_std: Standard deviation of the position kernel in pixels.
        pixel: Side of a pixel in the unit of both `xy_std`: 2 if the image was shrunk to half its size.

    Returns:
        float32 `[labels, height, width]`, whose sum over the labels is 1.
    """
    height, width, _ = image.shape
    # Columns first: the lattice depends on the order of the features, and this is the reference library's.
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    xy_std = bilateral_xy_std / pixel
    features = np.dstack([columns / xy_std, rows / xy_std, np.float32(image) / bilateral_rgb_std])
    lattice = PermutohedralLattice(features.reshape(-1, 5))

    def filter_by_color(maps: np.ndarray) -> np.ndarray:
        return lattice.filter(maps.reshape(len(maps), -1)).reshape(maps.shape)

    def filter_by_position(maps: np.ndarray) -> np.ndarray:
        return np.stack([_gaussian_sums(each, position_xy_std / pixel) for each in maps])

    ones = np.ones((1, height, width), np.float32)
    bilateral, position = _normalized(filter_by_color, ones), _normalized(filter_by_position, ones)

    def messages(maps: np.ndarray) -> np.ndarray:
        return bilateral_weight * bilateral(maps) + position_weight * position(maps)

    log_probabilities = np.log(np.clip(probabilities, LEAST_PROBABILITY, 1))
    marginals, of_all = _softmax(log_probabilities), messages(ones)
    for _ in range(num_iterations):
        # Marginals sum to 1, so the messages to the last label follow from the others.
        of_others = messages(marginals[:-1])
        marginals = _softmax(log_probabilities + np.concatenate([of_others, of_all - of_others.sum(axis=0)]))
    return marginals


def _normalized(kernel: Callable[[np.ndarray], np.ndarray], ones: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The kernel with a factor of 1 / sqrt(row sum) before and after it."""
    factor = 1 / np.sqrt(kernel(ones))
    return lambda maps: factor * kernel(factor * maps)


def _gaussian_sums(one: np.ndarray, std: float) -> np.ndarray:
    """Gaussian sums of `[height, width]` over the pixels of the image, with nothing beyond its border."""
    radius = math.ceil(4 * std)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / std) ** 2)
    return cv2.sepFilter2D(one, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_CONSTANT)


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)
