"""Training in less memory: a network keeps few activations, and computes the others again for its backward pass."""

import functools

import keras
import tensorflow as tf

from oaa_tf.models.backbones import block_of, bottlenecks


def recomputed(network: keras.Model) -> keras.Model:
    """A network of the same layers that keeps fewer activations in training.

    It keeps those through which everything behind them goes, and which end a block of `freeze_blocks` or begin a
    residual one; what is between two of them is computed again (Chen et al., Training Deep Nets with Sublinear Memory
    Cost, 2016). This takes about a third more time; the gradients are the same.

    Args:
        network: A functional network with one input and one output.
    """
    return RecomputedNetwork(network.inputs[0], network.outputs[0], name=network.name)


@keras.saving.register_keras_serializable(package="oaa_tf")
class RecomputedNetwork(keras.Model):
    """See `recomputed`."""

    # Unlike an attribute that is set, this is no part of the model to Keras, which would count its layers twice.
    @functools.cached_property
    def _segments(self) -> list[keras.Model]:
        """Networks one after the other; each takes the output of the one before, and the last the images as well."""
        ends = [
            operation.output
            for operation, following, num_readers in bottlenecks(self)
            if (block_of(following) or 0) > (block_of(operation) or 0) or num_readers > 1
        ]
        (images,) = self.inputs
        segments = [keras.Model(begin, end) for begin, end in zip([images, *ends[:-1]], ends, strict=True)]
        return [*segments, keras.Model([ends[-1], images], self.outputs[0])] if ends else []

    def call(self, inputs, training=None, mask=None):
        """Runs the layers."""
        if not training or not self._segments:
            return super().call(inputs, training=training, mask=mask)
        *segments, last = self._segments
        x = inputs
        for segment in segments:
            x = _run(segment, x)
        return _run(last, x, inputs)


def _run(segment: keras.Model, *tensors: tf.Tensor) -> tf.Tensor:
    def run(*tensors: tf.Tensor) -> tf.Tensor:
        return segment(list(tensors) if len(tensors) > 1 else tensors[0], training=True)

    # Frozen layers have no backward pass.
    return (tf.recompute_grad(run) if segment.trainable_variables else run)(*tensors)
