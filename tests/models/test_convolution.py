"""Gradients of convolutions in bfloat16."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from oaa_tf.models.convolution import Convolution


def gradients(dtype: str, images: tf.Tensor, upstream: tf.Tensor, in_function: bool, **options) -> list[np.ndarray]:
    """Gradients of the input, the kernel and the bias."""
    keras.utils.set_random_seed(0)
    layer = Convolution(16, padding="same", bias_initializer="random_normal", dtype=dtype, **options)
    layer.build(images.shape)

    def compute() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images)
            total = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
        return tape.gradient(total, [images, layer.kernel.value, layer.bias.value])

    found = (tf.function(compute) if in_function else compute)()
    return [tf.cast(gradient, tf.float32).numpy() for gradient in found]


@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize(("kernel_size", "dilation_rate"), [(3, 1), (3, 2), (3, 12), (1, 1)])
def test_all_gradients_in_bfloat16_are_within_one_percent(kernel_size: int, dilation_rate: int, in_function: bool):
    """A bias whose gradient TensorFlow sums in bfloat16 is off by 75 % here."""
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(4, 64, 64, 8)), tf.float32)
    upstream = tf.constant(generator.normal(0.5, size=(4, 64, 64, 16)), tf.float32)
    options = {"kernel_size": kernel_size, "dilation_rate": dilation_rate}
    expected, found = (
        gradients(dtype, images, upstream, in_function, **options) for dtype in ("float32", "mixed_bfloat16")
    )
    for one, other in zip(expected, found, strict=True):
        assert np.linalg.norm(other - one) < 0.01 * np.linalg.norm(one)


def test_float32_is_kept_as_it_is() -> None:
    images = tf.random.stateless_normal((2, 9, 9, 3), (1, 2))
    keras.utils.set_random_seed(3)
    ours = Convolution(4, 3, padding="same", activation="relu", bias_initializer="random_normal")
    theirs = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
    theirs.build(images.shape)
    ours.build(images.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_array_equal(ours(images), theirs(images))


def test_is_registered_with_keras() -> None:
    layer = Convolution(4, 3, dilation_rate=2, padding="same")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert isinstance(again, Convolution) and again.get_config() == layer.get_config()
