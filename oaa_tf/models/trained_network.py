"""The base class of the models that train a network."""

from collections.abc import Callable
from typing import Any, Self

import keras
import tensorflow as tf

Batch = dict[str, tf.Tensor]


class TrainedNetwork(keras.Model):
    """Trains a network by gradient descent, and keeps it separate, so that it can be exported alone.

    A loss is a mean and comes with its weight, the number of images or pixels. So the update is the same whether a
    batch is computed at once, in parts, or by several replicas.

    Attributes:
        network: The functional model from images to scores.
        accumulate_steps: Number of parts of a batch that are computed one after the other, to save memory.
        loss_mean: Mean loss since the metrics were reset.
    """

    def __init__(self, network: keras.Model, *, accumulate_steps: int = 1, **kwargs) -> None:
        """Wraps a network."""
        super().__init__(**kwargs)
        # On one GPU, Keras would use XLA, which does not work with the table on the host.
        self.supports_jit = False
        self.network = network
        # The network has all weights, so Keras can restore the optimizer of a loaded model at once.
        self.built = network.built
        self.accumulate_steps = accumulate_steps
        self.loss_mean = keras.metrics.Mean(name="loss")

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the network's scores."""
        return self.network(images, training=training)

    def compute_loss_of(self, batch: Batch, training: bool = True) -> tuple[tf.Tensor, tf.Tensor, Any]:
        """Runs the network and computes the loss.

        Args:
            batch: Images and what the loss needs.
            training: Whether the network is in training mode.

        Returns:
            The loss, a mean, and its weight, the number of images or pixels (both float32 scalars); and outputs for
            `observe` and `measure`, of any kind.
        """
        raise NotImplementedError

    def observe(self, batch: Batch, outputs: Any) -> None:
        """Uses the forward pass of a training step; by default to update metrics."""
        self.measure(batch, outputs)

    def measure(self, batch: Batch, outputs: Any) -> None:
        """Updates metrics from a forward pass, in training or evaluation; by default none."""
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
        """Gradients of the loss times a factor, which depends on the weight of the loss, and the weight."""
        with tf.GradientTape() as tape:
            loss, weight, outputs = self.compute_loss_of(batch)
            scaled = self.optimizer.scale_loss(loss * factor_of_weight(weight))
        self.loss_mean.update_state(loss, sample_weight=weight)
        self.observe(batch, outputs)
        variables = self.network.trainable_variables
        return tape.gradient(scaled, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO), weight

    def _gradients_in_parts(self, batch: Batch) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Gradients of the weighted sum of the losses of all parts, and the sum of their weights."""
        batch_size = tf.shape(next(iter(batch.values())))[0]

        def add_part(index, sums, weight):
            first, end = (k * batch_size // self.accumulate_steps for k in (index, index + 1))
            part = {name: value[first:end] for name, value in batch.items()}
            gradients, part_weight = self._gradients(part, lambda weight: weight)
            sums = [before + more for before, more in zip(sums, gradients, strict=True)]
            return index + 1, sums, weight + part_weight

        zeros = [tf.zeros_like(variable) for variable in self.network.trainable_variables]
        _, sums, weight = tf.while_loop(
            lambda index, *_: index < self.accumulate_steps,
            add_part,
            (tf.constant(0), zeros, tf.constant(0.0)),
            parallel_iterations=1,
        )
        return sums, weight

    def _share_of_all_replicas(self, weight: tf.Tensor) -> tf.Tensor:
        """This replica's share of the weight of all replicas, whose gradients the optimizer adds up."""
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return tf.constant(1.0)
        return tf.math.divide_no_nan(weight, context.all_reduce(tf.distribute.ReduceOp.SUM, weight))

    def metric_results(self) -> dict[str, tf.Tensor]:
        """The values of all metrics since they were reset, by name."""
        return {metric.name: metric.result() for metric in self.metrics}

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        network = keras.saving.serialize_keras_object(self.network)
        return {"name": self.name, "network": network, "accumulate_steps": self.accumulate_steps}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Makes the model from what `get_config` returned."""
        nested = {name: keras.saving.deserialize_keras_object(v) for name, v in config.items() if isinstance(v, dict)}
        return cls(**(config | nested))
