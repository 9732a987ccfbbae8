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

    Padding has attention 0, and so has a class whose scores are nowhere positive.

    Args:
        score_maps: F, float32 `[batch, height, width, classes]`.
        valid: bool `[batch, height, width]`.

    Returns:
        float32 `[batch, height, width, classes]` in [0, 1].
    """
    positive = tf.where(tf.expand_dims(valid, -1), tf.nn.relu(score_maps), 0.0)
    return positive / (tf.reduce_max(positive, axis=[1, 2], keepdims=True) + 1e-8)


def probability_maps(score_maps: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    """Attention q_c / max(q_c), with the probabilities q = sigmoid(F) of the integral attention model (Sec. 3.3).

    As in Eq. 2, the maximum is over the valid cells of each image, and padding has attention 0. Unlike Eq. 2, it keeps
    cells with a negative score, whose probability is below 1/2.

    Args:
        score_maps: F, float32 `[batch, height, width, classes]`.
        valid: bool `[batch, height, width]`.

    Returns:
        float32 `[batch, height, width, classes]` in [0, 1].
    """
    probabilities = tf.where(valid[..., tf.newaxis], tf.sigmoid(score_maps), 0.0)
    return tf.math.divide_no_nan(probabilities, tf.reduce_max(probabilities, axis=[1, 2], keepdims=True))


READOUTS = {"relu": class_activation_maps, "sigmoid": probability_maps}
"""Functions from score maps to attention, by name."""
