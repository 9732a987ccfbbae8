"""Convolutions with exact bias gradients in 16 bits, fast with a dilation, and with a normalisation inside."""

import functools
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="oaa_tf")
class Convolution(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that sums the gradient of the bias in float32, and is fast with a wide dilation.

    On CPUs, TensorFlow sums the bias gradient of a bfloat16 convolution in bfloat16. With 8 bits, the sum stops growing
    long before it has added thousands of cells, and is too small by half or more. float16 has 11 bits.

    Keras splits the image of a dilated convolution into many small images, each of every n-th cell and padded with
    zeros. oneDNN and GPUs have kernels that need no splitting: with dilation 2, they take three quarters of the time.
    With dilation 12 on 12 x 16 cells, most of what they multiply lies beyond the border, too. So on CPUs, from a
    dilation of 8 on, `tapwise_convolution` multiplies only what a tap can reach; GPUs would waste memory for its
    outputs.

    With a 1x1 kernel, it is a product of two matrices. In bfloat16 on a CPU, TensorFlow computes the gradients of that
    two to three times as fast.

    In TensorFlow 2.21, oneDNN can write beyond its memory in the gradient of a 1x1 kernel with a stride. So the input
    is thinned out first, which is the same.

    A scaled convolution has what a frozen batch normalisation behind it would do: a `scale` of each channel, by which
    the kernel is multiplied whenever it is used, and a bias that is its offset. The kernel itself stays as it was
    learnt. With the scale in it, an optimizer such as Adam, whose steps have a size of their own, would take too large
    steps where scales are small, and destroy what was learnt.
    """

    def __init__(self, *args, scaled: bool = False, **kwargs) -> None:
        """As Keras' layer; `scaled`: whether there is a scale."""
        super().__init__(*args, **kwargs)
        self.scaled = scaled

    def build(self, input_shape) -> None:
        """Makes the weights."""
        super().build(input_shape)
        if self.scaled:
            self.scale = _scale(self, self.filters)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return super().get_config() | {"scaled": self.scaled}

    def save_own_variables(self, store) -> None:
        """Saves the weights; Keras' own method knows kernel and bias."""
        super().save_own_variables(store)
        if self.scaled:
            store["scale"] = self.scale

    def load_own_variables(self, store) -> None:
        """Loads the weights."""
        super().load_own_variables(store)
        if self.scaled:
            self.scale.assign(store["scale"])

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the convolution of `[batch, height, width, channels]`."""
        if not self.use_bias or self.compute_dtype not in ("bfloat16", "float16"):
            return super().call(inputs)
        outputs = _add_bias(self.convolution_op(inputs, self.kernel), keras.ops.cast(self.bias, self.compute_dtype))
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The convolution without bias and activation."""
        if self.scaled:
            kernel = _times(kernel, self.scale)
        on_cpu = not tf.config.list_logical_devices("GPU")
        if max(self.dilation_rate) > 1 and self.padding == "same" and self.groups == 1:
            kernel = tf.convert_to_tensor(kernel)
            if on_cpu and min(self.dilation_rate) >= 8:
                return tapwise_convolution(inputs, kernel, self.dilation_rate)
            if _has_dilated_kernels(inputs.dtype):
                return tf.nn.conv2d(inputs, kernel, 1, "SAME", dilations=self.dilation_rate)
        if self.kernel_size == (1, 1) and self.groups == 1:
            kept = inputs if self.strides == (1, 1) else inputs[:, :: self.strides[0], :: self.strides[1]]
            if on_cpu and self.compute_dtype == "bfloat16":
                return tf.tensordot(kept, tf.reshape(kernel, kernel.shape[2:]), 1)
            if self.strides != (1, 1):
                return keras.ops.conv(kept, kernel, padding="valid", data_format="channels_last")
        return super().convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable(package="oaa_tf")
class ScaledDepthwiseConvolution(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with a depth multiplier of 1 and a scale, as a scaled `Convolution` has it."""

    def build(self, input_shape) -> None:
        """Makes the weights."""
        super().build(input_shape)
        self.scale = _scale(self, input_shape[-1])

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the convolution of `[batch, height, width, channels]`."""
        outputs = keras.ops.depthwise_conv(
            inputs,
            _times(self.kernel, self.scale[:, tf.newaxis]),
            strides=self.strides,
            padding=self.padding,
            data_format="channels_last",
            dilation_rate=self.dilation_rate,
        )
        return self.activation(keras.ops.add(outputs, self.bias))


@functools.cache
def _has_dilated_kernels(dtype: tf.DType) -> bool:
    """Whether there are gradients of dilated convolutions: TensorFlow has some for GPUs and, by oneDNN, for x86."""
    try:
        with tf.init_scope():
            images, kernel = (tf.ones(shape, dtype) for shape in ([1, 3, 3, 1], [3, 3, 1, 1]))
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=images.shape,
                filter=kernel,
                out_backprop=images,
                strides=[1, 1, 1, 1],
                padding="SAME",
                dilations=[1, 2, 2, 1],
            )
    except tf.errors.InvalidArgumentError:
        return False
    return True


def _scale(layer: keras.layers.Layer, num_channels: int) -> keras.Variable:
    return layer.add_weight(
        shape=(num_channels,), initializer="ones", trainable=False, autocast=False, dtype="float32", name="scale"
    )


def _times(kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    kernel = tf.convert_to_tensor(kernel)
    return tf.cast(tf.cast(kernel, tf.float32) * scale, kernel.dtype)


def tapwise_convolution(values: tf.Tensor, kernel: tf.Tensor, dilation: tuple[int, int]) -> tf.Tensor:
    """A dilated convolution with stride 1 and padding "same", computed as one matrix product per tap of the kernel.

    Args:
        values: Of any floating-point dtype, `[batch, height, width, inputs]`.
        kernel: `[rows, columns, inputs, outputs]`, of the same dtype.
        dilation: Dilation of rows and columns.

    Returns:
        `[batch, height, width, outputs]`, of the same dtype.
    """
    size = tf.shape(values)[1:3]
    rows, columns, num_inputs, num_outputs = kernel.shape
    outputs = []
    # `unstack`, since the gradient of a slice would be as large as the whole kernel, for every tap.
    for number, matrix in enumerate(tf.unstack(tf.reshape(kernel, [rows * columns, num_inputs, num_outputs]))):
        row, column = divmod(number, columns)
        # From a cell of the output to the input cell that this tap reads.
        offset = [
            tap * rate - (taps - 1) * rate // 2
            for tap, taps, rate in zip((row, column), (rows, columns), dilation, strict=True)
        ]
        # The number of output cells at the near and the far border for which this tap reads beyond the border. One cell
        # is always left, since ONNX cannot reshape an empty tensor: if all cells read beyond the border, it reads 0.
        before = tf.minimum([max(-distance, 0) for distance in offset], size - 1)
        after = tf.minimum([max(distance, 0) for distance in offset], size - 1)
        is_seen = tf.reduce_all(tf.abs(offset) < size)
        seen = values[:, after[0] : size[0] - before[0], after[1] : size[1] - before[1]]
        seen = tf.where(is_seen, seen, tf.zeros([], values.dtype))
        # `tensordot` multiplies two matrices. `matmul` would broadcast one, and in TensorFlow 2.21 oneDNN then writes
        # beyond its result if an axis has length 1 (github.com/tensorflow/tensorflow/issues/117700).
        product = tf.tensordot(seen, matrix, 1)
        outputs.append(tf.pad(product, [[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]]))
    total = tf.add_n(outputs)
    total.set_shape([*values.shape[:3], num_outputs])
    return total


@tf.custom_gradient
def _add_bias(values: tf.Tensor, bias: tf.Tensor):
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if upstream.dtype != tf.bfloat16:
            return upstream, tf.cast(tf.reduce_sum(tf.cast(upstream, tf.float32), axis=[0, 1, 2]), bias.dtype)
        # A matrix product sums in float32 by itself, and takes a fraction of the time of a cast and a sum.
        cells = tf.reshape(upstream, [-1, upstream.shape[-1]])
        return upstream, tf.matmul(tf.ones([1, tf.shape(cells)[0]], cells.dtype), cells)[0]

    return tf.nn.bias_add(values, bias), gradient
