"""Gradients of convolutions in 16 bits, wide dilations, and 1x1 kernels with a stride."""

import os
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from oaa_tf.models import convolution
from oaa_tf.models.convolution import Convolution, tapwise_convolution


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


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("in_function", [False, True])
@pytest.mark.parametrize(("kernel_size", "dilation_rate"), [(3, 1), (3, 2), (3, 12), (1, 1)])
def test_all_gradients_in_16_bits_are_within_one_percent(
    kernel_size: int, dilation_rate: int, in_function: bool, dtype: str
) -> None:
    """A bias whose gradient TensorFlow sums in bfloat16 is off by 75 % here."""
    generator = np.random.default_rng(0)
    images = tf.constant(generator.normal(size=(4, 64, 64, 8)), tf.float32)
    upstream = tf.constant(generator.normal(0.5, size=(4, 64, 64, 16)), tf.float32)
    options = {"kernel_size": kernel_size, "dilation_rate": dilation_rate}
    expected, found = (gradients(policy, images, upstream, in_function, **options) for policy in ("float32", dtype))
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


@pytest.mark.parametrize(("found", "is_tapwise"), [([], True), (["GPU:0"], False)])
def test_gpus_use_their_own_kernels(found: list[str], is_tapwise: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: found)
    monkeypatch.setattr(
        convolution, "tapwise_convolution", lambda *given: calls.append(1) or tapwise_convolution(*given)
    )
    layer = Convolution(2, 3, padding="same", dilation_rate=12)
    assert layer(tf.zeros((1, 8, 8, 3))).shape == (1, 8, 8, 2)
    assert bool(calls) == is_tapwise


def test_is_registered_with_keras() -> None:
    layer = Convolution(4, 3, dilation_rate=2, padding="same")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert isinstance(again, Convolution) and again.get_config() == layer.get_config()


def convolution_by_hand(values: np.ndarray, kernel: np.ndarray, dilation: tuple[int, int]) -> np.ndarray:
    """Sums over what every cell of the output sees."""
    height, width = values.shape[1:3]
    outputs = np.zeros((*values.shape[:3], kernel.shape[-1]))
    for row, column, i, j in np.ndindex(height, width, *kernel.shape[:2]):
        y = row + (i - kernel.shape[0] // 2) * dilation[0]
        x = column + (j - kernel.shape[1] // 2) * dilation[1]
        if 0 <= y < height and 0 <= x < width:
            outputs[:, row, column] += values[:, y, x] @ kernel[i, j]
    return outputs


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel_size=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3])),
    dilation=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 1000),
)
def test_tapwise_convolution_is_the_dilated_convolution(size, kernel_size, dilation, seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(2, *size, 3)).astype(np.float32)
    kernel = generator.normal(size=(*kernel_size, 3, 4)).astype(np.float32)
    found = tapwise_convolution(tf.constant(values), tf.constant(kernel), dilation)
    np.testing.assert_allclose(found, convolution_by_hand(values, kernel, dilation), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dilation", [(2, 2), (4, 3), (12, 5), (12, 8)])
@pytest.mark.parametrize("kernel_size", [3, 2, 4])
@pytest.mark.parametrize("size", [(1, 3), (5, 12), (12, 16), (30, 27)])
def test_dilation_has_the_outputs_and_gradients_of_keras(
    size: tuple[int, int], kernel_size: int, dilation: tuple[int, int]
) -> None:
    """On grids that most taps leave, and on one that has all of them."""
    images = tf.random.stateless_normal((2, *size, 3), (1, 2))
    ours = Convolution(4, kernel_size, padding="same", dilation_rate=dilation, bias_initializer="random_normal")
    theirs = keras.layers.Conv2D(4, kernel_size, padding="same", dilation_rate=dilation)
    found = []
    for layer in (ours, theirs):
        layer.build((None, None, None, 3))
        layer.set_weights(ours.get_weights())

        # The size of the images is not known when the graph is made.
        @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
        def compute(images: tf.Tensor, layer=layer) -> list[tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = layer(images)
                total = tf.reduce_sum(tf.sin(outputs))
            return [outputs, *tape.gradient(total, [images, layer.kernel.value, layer.bias.value])]

        found.append(compute(images))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("has_onednn", [True, False])
def test_dilation_without_kernels_for_it_is_split_as_keras_does(has_onednn: bool) -> None:
    script = f"""
        import tensorflow as tf
        from oaa_tf.models.convolution import Convolution, _has_dilated_kernels

        layer = Convolution(2, 3, padding="same", dilation_rate=2)
        with tf.GradientTape() as tape:
            total = tf.reduce_sum(layer(tf.ones([1, 8, 8, 3])))
        assert tape.gradient(total, layer.kernel).shape == (3, 3, 3, 2)
        assert not {not has_onednn} or not _has_dilated_kernels(tf.float32)
    """
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(int(has_onednn))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("size", [(16, 16), (15, 10)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_1x1_kernel_with_a_stride_gives_what_keras_gives(size: tuple[int, int], padding: str) -> None:
    images = np.random.default_rng(0).normal(size=(2, *size, 8)).astype(np.float32)
    ours, theirs = (kind(16, 1, strides=2, padding=padding) for kind in (Convolution, keras.layers.Conv2D))
    ours.build(images.shape)
    theirs.build(images.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(images), theirs(images), rtol=1e-5, atol=1e-5)
    assert ours.compute_output_shape(images.shape) == ours(images).shape


@pytest.mark.slow
def test_the_gradient_of_a_1x1_kernel_with_a_stride_writes_nothing_else() -> None:
    # In a process of its own, which the gradient of Keras' convolution brings down.
    script = """
        import numpy as np
        import tensorflow as tf
        from oaa_tf.models.convolution import Convolution

        images = np.random.default_rng(0).normal(size=(1, 16, 16, 8)).astype(np.float32)
        layer = Convolution(16, 1, strides=2)
        layer.build(images.shape)
        for _ in range(10):
            with tf.GradientTape() as tape:
                total = tf.reduce_sum(layer(images))
            gradient = tape.gradient(total, layer.kernel.value)
        expected = images[:, ::2, ::2].sum(axis=(0, 1, 2))
        np.testing.assert_allclose(gradient[0, 0], np.repeat(expected[:, np.newaxis], 16, axis=1), rtol=1e-4, atol=1e-4)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
