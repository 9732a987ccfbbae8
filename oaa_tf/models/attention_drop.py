"""The attention drop layer: hides from the classifier, now and then, what it attends to most."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="oaa_tf")
class AttentionDrop(keras.layers.Layer):
    """Sets the most attended cells of the features to 0 in training, in some images, so that other cells must serve.

    The attention is the features' mean over channels (Choe, Shim: Attention-based dropout layer, CVPR 2019). The
    authors of online attention accumulation use such a layer in their later work, so that more of an object is
    attended in the course of the training. Which images are concerned is drawn for each by itself, not for the batch.
    """

    def __init__(self, rate: float, *, threshold: float = 0.8, seed: int = 0, **kwargs) -> None:
        """Configures the layer.

        Args:
            rate: Probability that cells are dropped in an image, in [0, 1].
            threshold: Cells whose attention exceeds this share of the image's highest are dropped, in [0, 1].
            seed: Seed of the draws.
        """
        super().__init__(**kwargs)
        self.rate = rate
        self.threshold = threshold
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, features, training=False):
        """Returns the features, `[batch, height, width, channels]`."""
        if not training or self.rate == 0:
            return features
        attention = tf.reduce_mean(tf.cast(features, tf.float32), axis=3, keepdims=True)
        highest = tf.reduce_max(attention, axis=[1, 2], keepdims=True)
        draws = keras.random.uniform([tf.shape(features)[0], 1, 1, 1], seed=self.seed_generator)
        dropped = (attention > self.threshold * highest) & (draws < self.rate)
        return tf.where(dropped, tf.zeros([], features.dtype), features)

    def get_config(self):
        """Returns the constructor's arguments."""
        return super().get_config() | {"rate": self.rate, "threshold": self.threshold, "seed": self.seed}
