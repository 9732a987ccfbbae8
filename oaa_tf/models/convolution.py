"""Convolution whose gradients are right in bfloat16 too."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="oaa_tf")
class Convolution(keras.layers.Conv2D):
    """As `keras.layers.Conv2D`, but the gradient of the bias is summed in float32.

    On CPUs, TensorFlow sums the bias gradient of a bfloat16 convolution in bfloat16, whose 8 bits stop growing long
    before thousands of cells are summed: it comes out off by half and more.
    """

    def call(self, inputs):
        """Returns the convolution of `[batch, height, width, channels]`."""
        if not self.use_bias or self.compute_dtype != "bfloat16":
            return super().call(inputs)
        outputs = _add_bias(self.convolution_op(inputs, self.kernel), keras.ops.cast(self.bias, "bfloat16"))
        return outputs if self.activation is None else self.activation(outputs)


@tf.custom_gradient
def _add_bias(values: tf.Tensor, bias: tf.Tensor):
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return upstream, tf.cast(tf.reduce_sum(tf.cast(upstream, tf.float32), axis=[0, 1, 2]), bias.dtype)

    return tf.nn.bias_add(values, bias), gradient
