"""A segmentation network that corrects its labels while it learns from them."""

from typing import Any

import keras
import tensorflow as tf

from oaa_tf.data.records import keys
from oaa_tf.data.records.keys import IGNORE_LABEL
from oaa_tf.data.views.frame import STRIDE
from oaa_tf.models.largefov import DeepLabLargeFOV, resized
from oaa_tf.models.trained_network import Batch

MIN_PROBABILITY = 0.7
"""Pixels whose label is less probable to the teacher are ignored."""


@keras.saving.register_keras_serializable(package="oaa_tf")
class MeanTeacher(DeepLabLargeFOV):
    """Trains a segmentation network on pseudo labels first, and then on what a mean teacher says.

    The teacher is the network with the mean of its weights over about the last tenth of its steps so far (Tarvainen and
    Valpola, Mean teachers are better role models, NIPS 2017). It sees the same views as the network, without dropout,
    and labels them by the rule of `oaa_tf.labels.rules.confident_label` with `MIN_PROBABILITY`. In the end, the network
    takes over its weights.

    Batches also hold `keys.LABELS`, `keys.VALID` and, with saliency, `keys.SALIENCY`, uint8 `[batch, height, width]`.

    Attributes:
        mean_weights: The teacher's values of the network's trainable variables.
    """

    required_keys = (keys.IMAGE, keys.SEGMENTATION, keys.LABELS, keys.VALID)

    def __init__(self, network: keras.Model, *, first_step: int, use_saliency: bool, **kwargs) -> None:
        """Wraps a network.

        Args:
            network: As in `DeepLabLargeFOV`.
            first_step: Steps that learn from the labels of the batches, before the teacher's take their place.
            use_saliency: Whether saliency maps help the teacher to tell background from objects.
            **kwargs: As in `DeepLabLargeFOV`.
        """
        super().__init__(network, **kwargs)
        self.first_step = first_step
        self.use_saliency = use_saliency
        self.mean_weights = [
            keras.Variable(weight.numpy(), trainable=False, aggregation="only_first_replica", name=f"mean_{number}")
            for number, weight in enumerate(network.trainable_variables)
        ]

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"first_step": self.first_step, "use_saliency": self.use_saliency}

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step of gradient descent, after which the teacher follows the network."""
        results = super().train_step(data)
        share = 9 / (9 + tf.cast(self.optimizer.iterations, tf.float32))
        for mean, weight in zip(self.mean_weights, self.network.trainable_variables, strict=True):
            mean.assign(mean + share * (weight - mean))
        return results

    def finish(self) -> None:
        """Gives the network the teacher's weights, which generalize better."""
        for mean, weight in zip(self.mean_weights, self.network.trainable_variables, strict=True):
            weight.assign(mean.numpy())

    def compute_loss_of(self, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The segmentation loss of the batch's labels or, in training from `first_step` on, of the teacher's."""
        if training:
            labels = tf.cond(
                self.optimizer.iterations >= self.first_step,
                lambda: self.teachers_labels(batch),
                lambda: batch[keys.SEGMENTATION],
            )
            batch = batch | {keys.SEGMENTATION: labels}
        return super().compute_loss_of(batch, training)

    def teachers_labels(self, batch: Batch) -> tf.Tensor:
        """The teacher's labels of a batch.

        Returns:
            uint8 `[batch, height, width]`: 0 background, c + 1 class c, 255 for pixels of which the teacher is not
            sure, and for the padding.
        """
        logits, _ = self.network.stateless_call(
            self.mean_weights, self.network.non_trainable_variables, batch[keys.IMAGE], training=False
        )
        probabilities = tf.nn.softmax(resized(logits, batch[keys.SEGMENTATION]))
        is_shown = batch[keys.LABELS][:, tf.newaxis, tf.newaxis]
        background, objects = probabilities[..., :1], probabilities[..., 1:] * is_shown
        of_objects = tf.reduce_sum(objects, axis=-1, keepdims=True)
        background = tf.math.divide_no_nan(background, background + of_objects)
        if self.use_saliency:
            background = (background + 1 - tf.cast(batch[keys.SALIENCY], tf.float32)[..., tf.newaxis] / 255) / 2
        scores = tf.concat([background, objects * tf.math.divide_no_nan(1 - background, of_objects)], axis=-1)
        labels = tf.argmax(scores, axis=-1, output_type=tf.int32)
        # A photo of no class is background everywhere.
        is_sure = (tf.reduce_max(scores, axis=-1) >= MIN_PROBABILITY) | (tf.reduce_max(is_shown, axis=-1) == 0)
        is_photo = tf.repeat(tf.repeat(batch[keys.VALID], STRIDE, axis=1), STRIDE, axis=2)
        return tf.cast(tf.where(is_sure & is_photo, labels, IGNORE_LABEL), tf.uint8)
