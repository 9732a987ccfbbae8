"""Convolution whose gradients are right in bfloat16 too, and whose dilation does not multiply zeros."""

import keras
import tensorflow as tf

_LEAST_TAPWISE_DILATION = 4


@keras.saving.register_keras_serializable(package="oaa_tf")
class Convolution(keras.layers.Conv2D):
    """As `keras.layers.Conv2D`, but the gradient of the bias is summed in float32, and wide dilations are fast.

    On CPUs, TensorFlow sums the bias gradient of a bfloat16 convolution in bfloat16, whose 8 bits stop growing long
    before thousands of cells are summed: it comes out off by half and more.

    TensorFlow computes a dilated convolution on many small images of every n-th cell, padded with zeros: with dilation
    12 on 12 x 16 cells, most of what it multiplies are zeros. `tapwise_convolution` leaves out what is beyond the
    border. Below dilation 4, TensorFlow's way is as fast.
    """

    def call(self, inputs):
        """Returns the convolution of `[batch, height, width, channels]`."""
        if not self.use_bias or self.compute_dtype != "bfloat16":
            return super().call(inputs)
        outputs = _add_bias(self.convolution_op(inputs, self.kernel), keras.ops.cast(self.bias, "bfloat16"))
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs, kernel):
        """The convolution without bias and activation."""
        is_tapwise = min(self.dilation_rate) >= _LEAST_TAPWISE_DILATION and self.padding == "same" and self.groups == 1
        if not is_tapwise:
            return super().convolution_op(inputs, kernel)
        return tapwise_convolution(inputs, tf.convert_to_tensor(kernel), self.dilation_rate)


def tapwise_convolution(values: tf.Tensor, kernel: tf.Tensor, dilation: tuple[int, int]) -> tf.Tensor:
    """A dilated convolution as the sum of its taps' matrix products, each on those cells that the tap can reach.

    Args:
        values: `[batch, height, width, inputs]`.
        kernel: `[rows, columns, inputs, outputs]`.
        dilation: Of rows and columns.

    Returns:
        `[batch, height, width, outputs]`, as with stride 1 and padding with zeros ("same").
    """
    size = tf.shape(values)[1:3]
    rows, columns, num_inputs, num_outputs = kernel.shape
    outputs = []
    # Taken apart at once: the gradient of a slice would be as large as the kernel, for every tap.
    for number, matrix in enumerate(tf.unstack(tf.reshape(kernel, [rows * columns, num_inputs, num_outputs]))):
        row, column = divmod(number, columns)
        # From a cell of the output to the cell that this tap sees.
        offset = [
            tap * rate - (taps - 1) * rate // 2
            for tap, taps, rate in zip((row, column), (rows, columns), dilation, strict=True)
        ]
        # Cells of the output whose tap is beyond the border, before and behind the others; but one is always left,
        # since ONNX cannot reshape what is empty. Where it is beyond the border for all of them, it sees zeros.
        before = tf.minimum([max(-distance, 0) for distance in offset], size - 1)
        behind = tf.minimum([max(distance, 0) for distance in offset], size - 1)
        is_seen = tf.reduce_all(tf.abs(offset) < size)
        seen = values[:, behind[0] : size[0] - before[0], behind[1] : size[1] - before[1]]
        seen = tf.where(is_seen, seen, tf.zeros([], values.dtype))
        # Not `matmul`: oneDNN's writes beyond its result when it broadcasts a matrix over axes of length 1 (TensorFlow
        # 2.21, github.com/tensorflow/tensorflow/issues/117700). This one multiplies two matrices.
        product = tf.tensordot(seen, matrix, 1)
        outputs.append(tf.pad(product, [[0, 0], [before[0], behind[0]], [before[1], behind[1]], [0, 0]]))
    total = tf.add_n(outputs)
    total.set_shape([*values.shape[:3], num_outputs])
    return total


@tf.custom_gradient
def _add_bias(values: tf.Tensor, bias: tf.Tensor):
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return upstream, tf.cast(tf.reduce_sum(tf.cast(upstream, tf.float32), axis=[0, 1, 2]), bias.dtype)

    return tf.nn.bias_add(values, bias), gradient
