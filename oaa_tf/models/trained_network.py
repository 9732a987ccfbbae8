"""The common part of the models that train a network."""

import keras
import tensorflow as tf


class TrainedNetwork(keras.Model):
    """Owns a network that can be exported alone, and takes steps of gradient descent on it.

    Attributes:
        network: The functional model from images to scores.
        loss_mean: Mean loss since the metrics were reset.
    """

    def __init__(self, network: keras.Model, **kwargs) -> None:
        """Wraps a network."""
        super().__init__(**kwargs)
        self.network = network
        self.loss_mean = keras.metrics.Mean(name="loss")

    def call(self, images, training=False):
        """Returns the network's scores."""
        return self.network(images, training=training)

    def descend(self, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        """Applies the gradients of a replica's mean loss, recorded inside `tape`; replicas are averaged."""
        variables = self.network.trainable_variables
        with tape:
            scaled = self.optimizer.scale_loss(loss / self.distribute_strategy.num_replicas_in_sync)
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        self.loss_mean.update_state(loss)

    def metric_results(self) -> dict[str, tf.Tensor]:
        """Every metric's value since the metrics were reset."""
        return {metric.name: metric.result() for metric in self.metrics}
