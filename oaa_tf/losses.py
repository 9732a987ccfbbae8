"""The paper's losses (Eq. 1, 6-9) and the segmentation loss, all computed from logits, which avoids log(0).

Unless a docstring says otherwise, `logits` are the score maps F, float32 `[batch, height, width, classes]`; `targets`
are the cumulative attention p in [0, 1], of the same shape; `valid` is bool `[batch, height, width]`, False in padding.
Each loss is a float32 scalar, the mean over the batch, or 0 for an empty batch.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from oaa_tf.data.records.keys import IGNORE_LABEL


def classification_loss(logits: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor | float = 1.0) -> tf.Tensor:
    """Binary cross-entropy summed over classes, mean over the batch (paper, Sec. 3.1, below Eq. 1).

    Args:
        logits: Class scores before the sigmoid, float32 `[batch, classes]`.
        labels: Multi-hot, float32 `[batch, classes]`.
        weights: Factors of the images' losses, float32 `[batch]`.
    """
    per_class = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return _mean_over_images(weights * tf.reduce_sum(per_class, axis=1))


def weights_of_images(labels: tf.Tensor, negative_weight: float) -> tf.Tensor:
    """Weights of images in a loss: 1, and `negative_weight` for those without a label.

    Args:
        labels: Multi-hot, float32 `[batch, classes]`.
        negative_weight: See `RecordSet.negative_weight`.

    Returns:
        float32 `[batch]`.
    """
    return tf.where(tf.reduce_any(labels > 0, axis=1), 1.0, negative_weight)


def hybrid_loss(logits: tf.Tensor, targets: tf.Tensor, valid: tf.Tensor, weights: tf.Tensor | float = 1.0) -> tf.Tensor:
    """The hybrid loss of the integral attention model (paper, Eq. 7-9).

    With q = sigmoid(F), per image and class, over valid cells:

        L = -1/|N+| sum over N+ of p log q  -  1/|N-| sum over N- of log(1 - q)

    where N+ are the cells with p > 0 and N- those with p = 0. The first term is the enhanced loss, the second the
    constraint loss; an empty set contributes 0. Summed over classes. `weights` are as for `classification_loss`.
    """
    return _mean_over_images(weights * _hybrid_loss_of_images(logits, targets, valid))


@keras.saving.register_keras_serializable(package="oaa_tf")
class HybridLoss(keras.losses.Loss):
    """The hybrid loss (Eq. 7-9) for `compile` of Keras: the mean over images, which may have weights.

        model = class_aware_network(vgg16_backbone(), num_classes=20)
        model.compile("adam", loss=HybridLoss())
        model.fit(images, attention)

    `y_true` is the attention p in [0, 1], float32 `[batch, height, width, classes]`, and -1 for all classes in padding,
    which does not count. `y_pred` are the score maps F, logits of the same shape.
    """

    def __init__(self, reduction="sum_over_batch_size", name="hybrid_loss", **kwargs):
        """Makes the loss, with the options of all Keras losses."""
        super().__init__(name=name, reduction=reduction, **kwargs)

    def call(self, y_true, y_pred):
        """Returns the loss of every image, float32 `[batch]`."""
        return _hybrid_loss_of_images(y_pred, y_true, tf.reduce_all(y_true >= 0, axis=-1))


def _hybrid_loss_of_images(logits: tf.Tensor, targets: tf.Tensor, valid: tf.Tensor) -> tf.Tensor:
    valid = valid[..., tf.newaxis]
    attended = valid & (targets > 0)
    unattended = valid & (targets <= 0)
    # -log q = softplus(-F) and -log(1 - q) = softplus(F).
    enhanced = _mean_over_cells(targets * tf.nn.softplus(-logits), attended)
    constraint = _mean_over_cells(tf.nn.softplus(logits), unattended)
    return tf.reduce_sum(enhanced + constraint, axis=1)


def multi_label_cross_entropy(
    logits: tf.Tensor, targets: tf.Tensor, valid: tf.Tensor, weights: tf.Tensor | float = 1.0
) -> tf.Tensor:
    """Multi-label cross-entropy (MCE), the mean over valid cells, summed over classes: the baseline in Eq. 6.

    `weights` are as for `classification_loss`.
    """
    per_cell = tf.nn.sigmoid_cross_entropy_with_logits(labels=targets, logits=logits)
    return _mean_over_images(weights * tf.reduce_sum(_mean_over_cells(per_cell, valid[..., tf.newaxis]), axis=1))


def _mean_over_images(losses: tf.Tensor) -> tf.Tensor:
    """Mean of `[batch]`; 0 without images, since one of several GPUs may get none of a small batch."""
    return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), losses.dtype))


def _mean_over_cells(values: tf.Tensor, chosen: tf.Tensor, axis: Sequence[int] = (1, 2)) -> tf.Tensor:
    """Mean over the chosen cells, 0 where there are none: `[batch, height, width, classes]` to `[batch, classes]`."""
    total = tf.reduce_sum(tf.where(chosen, values, 0.0), axis=axis)
    count = tf.reduce_sum(tf.cast(chosen, values.dtype), axis=axis)
    return tf.math.divide_no_nan(total, count)


def segmentation_loss(logits: tf.Tensor, labels: tf.Tensor, label_weights: Sequence[float] = ()) -> tf.Tensor:
    """Softmax cross-entropy, the mean over all pixels of the batch that are not `IGNORE_LABEL`; 0 if there are none.

    Args:
        logits: float32 `[batch, height, width, classes + 1]`.
        labels: int32 `[batch, height, width]`.
        label_weights: Factors of the cross-entropy of each label's pixels, `[classes + 1]`; without them, all are 1.
    """
    kept = labels != IGNORE_LABEL
    known = tf.where(kept, labels, 0)
    per_pixel = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=known, logits=logits)
    if label_weights:
        per_pixel *= tf.gather(tf.constant(label_weights, per_pixel.dtype), known)
    kept = tf.cast(kept, logits.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(per_pixel * kept), tf.reduce_sum(kept))


def affinity_loss(distances: tf.Tensor, labels: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """The loss of affinities a = exp(-d), the mean over images (Ahn and Kwak, CVPR 2018, Eq. 5 to 8).

    Of an image, -log a is averaged over the pairs of two background cells, and over those of two cells of the same
    class; -log(1 - a), which counts twice, over the pairs of cells with different labels. A mean over no pairs is 0.

    Args:
        distances: The distances d of pairs of cells, float32 `[n, batch, height, width]`, not negative.
        labels: Label of the one cell, int32 `[batch, height, width]`, 0 background.
        others: Label of the other cell, int32 `[n, batch, height, width]`. Pairs with an `IGNORE_LABEL` do not count.
    """
    is_pair = (labels != IGNORE_LABEL) & (others != IGNORE_LABEL)
    is_same, is_background = labels == others, labels == 0
    # As in the authors' code, log(0) is kept away by a small number.
    attracted, repelled = distances, -tf.math.log(1 + 1e-5 - tf.exp(-distances))
    loss = sum(
        weight * _mean_over_cells(values, is_pair & chosen, axis=(0, 2, 3))
        for weight, values, chosen in (
            (1, attracted, is_same & is_background),
            (1, attracted, is_same & ~is_background),
            (2, repelled, ~is_same),
        )
    )
    return _mean_over_images(loss)
