"""Class activation maps from score maps (paper, Sec. 3.1, Eq. 1-2)."""

import tensorflow as tf


def class_scores(score_maps: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Global average pooling over valid cells: the logit z_c of Eq. 1.

    Args:
        score_maps: F, float32 `[batch, height, width, classes]`.
        valid: bool `[batch, height, width]`, False in padding.

    Returns:
        float32 `[batch, classes]`.
    """
    weight = tf.expand_dims(tf.cast(valid, score_maps.dtype), -1)
    return tf.math.divide_no_nan(tf.reduce_sum(score_maps * weight, axis=[1, 2]), tf.reduce_sum(weight, axis=[1, 2]))


def class_activation_maps(score_maps: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Attention A_c = relu(F_c) / max(F_c) over the valid cells of each image (Eq. 2).

    A class without any positive cell has attention 0 everywhere; so has padding.

    Args:
        score_maps: F, float32 `[batch, height, width, classes]`.
        valid: bool `[batch, height, width]`.

    Returns:
        float32 `[batch, height, width, classes]` in [0, 1].
    """
    positive = tf.where(tf.expand_dims(valid, -1), tf.nn.relu(score_maps), 0.0)
    return positive / (tf.reduce_max(positive, axis=[1, 2], keepdims=True) + 1e-8)


def probability_maps(score_maps: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """The probabilities q = sigmoid(F) that the integral attention model learns (Sec. 3.3), as attention.

    Divided by the greatest q_c of the image, so that, as with Eq. 2, the most attended cell has attention 1; padding
    has 0. Other than Eq. 2, it keeps what lies below a probability of 1/2.

    Args:
        score_maps: F, float32 `[batch, height, width, classes]`.
        valid: bool `[batch, height, width]`.

    Returns:
        float32 `[batch, height, width, classes]` in [0, 1].
    """
    probabilities = tf.where(valid[..., tf.newaxis], tf.sigmoid(score_maps), 0.0)
    return tf.math.divide_no_nan(probabilities, tf.reduce_max(probabilities, axis=[1, 2], keepdims=True))


READOUTS = {"relu": class_activation_maps, "sigmoid": probability_maps}
"""Ways from score maps to attention, by name."""
