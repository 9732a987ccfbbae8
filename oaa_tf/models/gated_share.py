"""The share of attention maps that pass the gate, by class."""

import keras
import numpy as np
import tensorflow as tf


class GatedShareByClass(keras.layers.Layer):
    """For every class, the share of its pairs of image and class that pass the gate.

    This is not a Keras metric, since Keras expects a single number for its logs. As a layer, its counters are saved
    with the model. Create it inside the scope of the distribution strategy.
    """

    def __init__(self, num_classes: int) -> None:
        """Makes counters of 0.

        Args:
            num_classes: C.
        """
        super().__init__(name="gated_share_by_class", dtype="float32")
        # Every replica counts its part of the batch.
        options = {"trainable": False, "synchronization": "on_read", "aggregation": "sum"}
        self.num_passed = keras.Variable(np.zeros(num_classes), dtype="float32", name="num_passed", **options)
        self.num_pairs = keras.Variable(np.zeros(num_classes), dtype="float32", name="num_pairs", **options)
        self.built = True

    def update(self, gate: tf.Tensor, labels: tf.Tensor) -> None:
        """Counts a batch.

        Args:
            gate: bool `[batch, C]`, the pairs that pass; only labels do.
            labels: Multi-hot, float32 `[batch, C]`.
        """
        self.num_passed.value.assign_add(tf.reduce_sum(tf.cast(gate, tf.float32), axis=0))
        self.num_pairs.value.assign_add(tf.reduce_sum(tf.cast(labels > 0, tf.float32), axis=0))

    def take(self) -> np.ndarray:
        """The shares since the last call, float32 `[C]`, NaN for a class without images; counts anew from here."""
        passed, pairs = (counter.numpy() for counter in (self.num_passed.value, self.num_pairs.value))
        for counter in (self.num_passed.value, self.num_pairs.value):
            counter.assign(tf.zeros_like(passed))
        return np.divide(passed, pairs, out=np.full_like(passed, np.nan), where=pairs > 0)
