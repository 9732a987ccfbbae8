"""The attention drop layer, which sometimes hides the most attended cells from the classifier."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="oaa_tf")
class AttentionDrop(keras.layers.Layer):
    """Sets the most attended cells of the features to 0 in some training images.

    The classifier then has to rely on other cells, so that it attends to more of an object in the course of training.
    The attention here is the mean of the features over channels (Choe, Shim: Attention-based dropout layer, CVPR 2019).
    The authors of online attention accumulation use such a layer in their later work. Every image of a batch has its
    own random draw.
    """

    def __init__(self, rate: float, *, threshold: float = 0.8, seed: int = 0, **kwargs) -> None:
        """Configures the layer.

        Args:
            rate: Probability, for each image, that its cells are dropped, in [0, 1].
            threshold: Cells with more attention than this share of the image's maximum are dropped, in [0, 1].
            seed: Seed of the random draws.
        """
        super().__init__(**kwargs)
        self.rate = rate
        self.threshold = threshold
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, features: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the features, `[batch, height, width, channels]`."""
        if not training or self.rate == 0:
            return features
        attention = tf.reduce_mean(tf.cast(features, tf.float32), axis=3, keepdims=True)
        highest = tf.reduce_max(attention, axis=[1, 2], keepdims=True)
        draws = keras.random.uniform([tf.shape(features)[0], 1, 1, 1], seed=self.seed_generator)
        dropped = (attention > self.threshold * highest) & (draws < self.rate)
        return tf.where(dropped, tf.zeros([], features.dtype), features)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"rate": self.rate, "threshold": self.threshold, "seed": self.seed}
