"""The common part of the models that train a network."""

from collections.abc import Callable
from typing import Any, Self

import keras
import tensorflow as tf

Batch = dict[str, tf.Tensor]


class TrainedNetwork(keras.Model):
    """Owns a network that can be exported alone, and takes steps of gradient descent on it.

    A loss comes with its weight, the number of images or pixels that it is the mean over. So the update is the same
    whether a batch is computed at once, in parts, or by several replicas.

    Attributes:
        network: The functional model from images to scores.
        accumulate_steps: Number of parts in which a batch is computed, one after the other, to save memory.
        loss_mean: Mean loss since the metrics were reset.
    """

    def __init__(self, network: keras.Model, *, accumulate_steps: int = 1, **kwargs) -> None:
        """Wraps a network."""
        super().__init__(**kwargs)
        # Keras would take XLA on one GPU, which does not get along with the table on the host.
        self.supports_jit = False
        self.network = network
        # The network makes all weights; so a loaded model's optimizer is ready for its state too.
        self.built = network.built
        self.accumulate_steps = accumulate_steps
        self.loss_mean = keras.metrics.Mean(name="loss")

    def call(self, images, training=False):
        """Returns the network's scores."""
        return self.network(images, training=training)

    def compute_loss_of(self, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Runs the network.

        Args:
            batch: Images and what the loss needs.
            training: Whether the network is in training mode.

        Returns:
            The loss, a mean; its weight, the number of what it is the mean over (both float32 scalars); and anything
            for `observe` and `measure`.
        """
        raise NotImplementedError

    def observe(self, batch: Batch, outputs: Any) -> None:
        """Takes what it wants from the forward pass of a training step; metrics, by default."""
        self.measure(batch, outputs)

    def measure(self, batch: Batch, outputs: Any) -> None:
        """Updates metrics from a forward pass, in training or evaluation; none by default."""
        # AutoGraph cannot convert a function without a statement.
        return

    def train_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """One step of gradient descent."""
        if self.accumulate_steps == 1:
            gradients, _ = self._gradients(batch, self._share_of_all_replicas)
        else:
            sums, weight = self._gradients_in_parts(batch)
            share = self._share_of_all_replicas(weight)
            gradients = [tf.math.divide_no_nan(share, weight) * gradient for gradient in sums]
        self.optimizer.apply_gradients(zip(gradients, self.network.trainable_variables, strict=True))
        return self.metric_results()

    def test_step(self, batch: Batch) -> dict[str, tf.Tensor]:
        """Loss and metrics, for `evaluate` and the validation data of `fit`."""
        loss, weight, outputs = self.compute_loss_of(batch, training=False)
        self.loss_mean.update_state(loss, sample_weight=weight)
        self.measure(batch, outputs)
        return self.metric_results()

    def _gradients(
        self, batch: Batch, factor_of_weight: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients of the loss, multiplied by a factor that depends on its weight, and the weight."""
        with tf.GradientTape() as tape:
            loss, weight, outputs = self.compute_loss_of(batch)
            scaled = self.optimizer.scale_loss(loss * factor_of_weight(weight))
        self.loss_mean.update_state(loss, sample_weight=weight)
        self.observe(batch, outputs)
        variables = self.network.trainable_variables
        return tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO), weight

    def _gradients_in_parts(self, batch: Batch) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients of the losses' weighted sum over the parts, and the sum of their weights."""
        batch_size = tf.shape(next(iter(batch.values())))[0]

        def add_part(index, sums, weight):
            first, end = (k * batch_size // self.accumulate_steps for k in (index, index + 1))
            part = {name: value[first:end] for name, value in batch.items()}
            gradients, part_weight = self._gradients(part, lambda weight: weight)
            return (
                index + 1,
                [before + more for before, more in zip(sums, gradients, strict=True)],
                weight + part_weight,
            )

        zeros = [tf.zeros_like(variable) for variable in self.network.trainable_variables]
        _, sums, weight = tf.while_loop(
            lambda index, *_: index < self.accumulate_steps,
            add_part,
            (tf.constant(0), zeros, tf.constant(0.0)),
            parallel_iterations=1,
        )
        return sums, weight

    def _share_of_all_replicas(self, weight: tf.Tensor) -> tf.Tensor:
        """This replica's share of the weight; 1 without other replicas. The optimizer adds their gradients up."""
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return tf.constant(1.0)
        return tf.math.divide_no_nan(weight, context.all_reduce(tf.distribute.ReduceOp.SUM, weight))

    def metric_results(self) -> dict[str, tf.Tensor]:
        """Every metric's value since the metrics were reset."""
        return {metric.name: metric.result() for metric in self.metrics}

    def get_config(self) -> dict[str, Any]:
        """Returns the configuration, that of the network included."""
        network = keras.saving.serialize_keras_object(self.network)
        return {"name": self.name, "network": network, "accumulate_steps": self.accumulate_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Makes the model from what `get_config` returned."""
        nested = {name: keras.saving.deserialize_keras_object(v) for name, v in config.items() if isinstance(v, dict)}
        return cls(**(config | nested))
