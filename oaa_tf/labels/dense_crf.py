"""The fully connected CRF (Kraehenbuehl, Koltun: Efficient inference in fully connected CRFs, NIPS 2011)."""

import functools
import math
from collections.abc import Callable

import tensorflow as tf

from oaa_tf.labels.permutohedral import PermutohedralLattice

LEAST_PROBABILITY = 1e-5
"""Lower probabilities are raised to this one, so that their logarithm is finite and the image can overrule them."""


def dense_crf(
    probabilities: tf.Tensor,
    image: tf.Tensor,
    *,
    num_iterations: int = 10,
    bilateral_weight: float = 3,
    bilateral_xy_std: float = 67,
    bilateral_rgb_std: float = 4,
    position_weight: float = 1,
    position_xy_std: float = 3,
) -> tf.Tensor:
    """Marginals of a CRF that connects every pixel with every other one, by mean field inference.

    Starting from the given probabilities p, every iteration sets

        Q_i(l) proportional to exp(log p_i(l) + sum over kernels k of weight_k * sum over j of K_k(i, j) * Q_j(l)),

    which is Potts compatibility. The bilateral kernel is a Gaussian of the distance in the image and in color, the
    position kernel a Gaussian of the distance in the image alone. Both are divided on both sides by the roots of their
    row sums, and include the pixel itself, like `NORMALIZE_SYMMETRIC` of the reference library.
    `PermutohedralLattice` approximates the bilateral kernel; the position kernel is a convolution up to four standard
    deviations.

    Args:
        probabilities: float32 `[height, width, labels]`, not negative; their sum may differ from 1.
        image: uint8 or float32 RGB `[height, width, 3]` in [0, 255].
        num_iterations: Number of mean field iterations.
        bilateral_weight: Weight of the bilateral kernel.
        bilateral_xy_std: Standard deviation of the bilateral kernel in pixels.
        bilateral_rgb_std: Standard deviation of the bilateral kernel in color.
        position_weight: Weight of the position kernel.
        position_xy_std: Standard deviation of the position kernel in pixels.

    Returns:
        float32 `[height, width, labels]`, whose sum over the labels is 1.
    """
    shape = tf.shape(probabilities)
    height, width = shape[0], shape[1]
    log_probabilities = tf.math.log(tf.clip_by_value(probabilities, LEAST_PROBABILITY, 1.0))

    # Columns first: the lattice depends on the order of the features, and this is the reference library's.
    rows, columns = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
    positions = tf.cast(tf.stack([columns, rows], axis=-1), tf.float32) / bilateral_xy_std
    features = tf.concat([positions, tf.cast(image, tf.float32) / bilateral_rgb_std], axis=-1)
    lattice = PermutohedralLattice(tf.reshape(features, [-1, 5]))

    def filter_by_color(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(lattice.filter(tf.reshape(values, [height * width, -1])), tf.shape(values))

    ones = tf.ones([height, width, 1])
    bilateral = _normalized(filter_by_color, ones)
    position = _normalized(functools.partial(_gaussian_convolution, std=position_xy_std), ones)

    def iterate(index, marginals):
        messages = bilateral_weight * bilateral(marginals) + position_weight * position(marginals)
        refined = tf.nn.softmax(log_probabilities + messages)
        return index + 1, tf.ensure_shape(refined, probabilities.shape)

    _, marginals = tf.while_loop(
        lambda index, _: index < num_iterations,
        iterate,
        (tf.constant(0), tf.nn.softmax(log_probabilities)),
        parallel_iterations=1,
    )
    return marginals


def _normalized(kernel: Callable[[tf.Tensor], tf.Tensor], ones: tf.Tensor) -> Callable[[tf.Tensor], tf.Tensor]:
    """The kernel with a factor of 1 / sqrt(row sum) before and after it."""
    factor = tf.math.rsqrt(kernel(ones))
    return lambda values: factor * kernel(factor * values)


def _gaussian_convolution(values: tf.Tensor, std: float) -> tf.Tensor:
    """Gaussian sums of `[height, width, channels]` over the pixels of the image, with nothing beyond its border."""
    radius = math.ceil(4 * std)
    weights = tf.exp(-0.5 * (tf.range(-radius, radius + 1, dtype=tf.float32) / std) ** 2)
    # Channels as a batch: a convolution with one channel is much faster than a depthwise one.
    maps = tf.transpose(values, [2, 0, 1])[..., tf.newaxis]
    for kernel_shape in ([-1, 1, 1, 1], [1, -1, 1, 1]):
        maps = tf.nn.conv2d(maps, tf.reshape(weights, kernel_shape), strides=1, padding="SAME")
    return tf.transpose(maps[..., 0], [1, 2, 0])
