"""The share of attention maps that pass the gate, by class."""

import numpy as np
import tensorflow as tf


class GatedShareByClass(tf.Module):
    """For every class, the share of its pairs of image and class that pass the gate.

    This is not a Keras metric, since Keras expects a single number for its logs. Create it inside the scope of the
    distribution strategy.
    """

    def __init__(self, num_classes: int) -> None:
        """Makes counters of 0.

        Args:
            num_classes: C.
        """
        super().__init__(name="gated_share_by_class")
        self._num_passed, self._num_pairs = (
            tf.Variable(
                tf.zeros([num_classes]),
                trainable=False,
                # Every replica counts its part of the batch.
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )
            for _ in range(2)
        )

    def update(self, gate: tf.Tensor, labels: tf.Tensor) -> None:
        """Counts a batch.

        Args:
            gate: bool `[batch, C]`, the pairs that pass; only labels do.
            labels: Multi-hot, float32 `[batch, C]`.
        """
        self._num_passed.assign_add(tf.reduce_sum(tf.cast(gate, tf.float32), axis=0))
        self._num_pairs.assign_add(tf.reduce_sum(tf.cast(labels > 0, tf.float32), axis=0))

    def take(self) -> np.ndarray:
        """The shares since the last call, float32 `[C]`, NaN for a class without images; counts anew from here."""
        passed, pairs = (counter.numpy() for counter in (self._num_passed, self._num_pairs))
        for counter in (self._num_passed, self._num_pairs):
            counter.assign(tf.zeros_like(passed))
        return np.divide(passed, pairs, out=np.full_like(passed, np.nan), where=pairs > 0)
